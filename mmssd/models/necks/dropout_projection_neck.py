"""Projector that gives a second embedding by dropout (OSS)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.step import pool_features

PLACES = ('linear', 'activation')


@contextmanager
def own_statistics(norm: nn.Module) -> Iterator[None]:
    """Let a batch norm use batch statistics without recording them."""
    tracked = getattr(norm, 'track_running_stats', None)
    if tracked is None:
        yield
        return
    norm.track_running_stats = False
    try:
        yield
    finally:
        norm.track_running_stats = tracked


@MODELS.register_module()
class DropoutProjectionNeck(BaseModule):
    """fc - [dropout] - bn - relu - fc - [dropout], with or without dropout.

    "Unsupervised Representation Transfer for Small Networks: I Believe I
    Can Distill On-the-Fly" (OSS; Choi, Kang, Oh), sections 3.3 and 5.2: a
    stochastic pass over the projection head alone gives another view of
    every crop, by the same weights. SwAV's projector when the dropout pass
    is not used. The output is not normalised.

    Args:
        in_channels (int): width of the pooled features.
        hid_channels (int): width of the hidden layer. Defaults to 2048
            (SwAV, for every backbone).
        out_channels (int): width of the embedding. Defaults to 128.
        dropout (Sequence[float]): rates after the first and the second
            linear layer. Defaults to (0.1, 0.05).
        norm (bool): batch normalisation after the first layer. Defaults to
            True.
        place (str): where the first dropout stands: right after the
            ``'linear'`` layer (the paper's words, the default), or after
            the ``'activation'``.
        record_dropout (bool): whether the dropout pass, too, moves the
            running statistics of the batch norm. Defaults to False, see the
            note.
        init_cfg (dict, optional): mmengine's initialisation config;
            PyTorch's own initialisation by default, as SwAV.

    Raises:
        ValueError: for a width below 1, a rate outside [0, 1) or an
            unknown place.

    Note:
        The dropout pass normalises by its own batch statistics and leaves
        the running ones to the plain pass, so evaluation does not see
        statistics of thinned-out features.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int = 2048,
        out_channels: int = 128,
        dropout: Sequence[float] = (0.1, 0.05),
        norm: bool = True,
        place: str = 'linear',
        record_dropout: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        widths = (in_channels, hid_channels, out_channels)
        if min(widths) < 1:
            raise ValueError(
                'in_channels, hid_channels, out_channels = '
                f'{widths}: all must be >= 1'
            )
        rates = tuple(dropout)
        if len(rates) != 2 or not all(0 <= rate < 1 for rate in rates):
            raise ValueError(
                f'dropout={dropout!r}: give two rates in [0, 1), one after '
                'each linear layer'
            )
        if place not in PLACES:
            raise ValueError(f'place={place!r}: must be one of {PLACES}')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.dropout = rates
        self.place = place
        self.record_dropout = record_dropout
        self.fc0 = nn.Linear(in_channels, hid_channels)
        self.bn0 = nn.BatchNorm1d(hid_channels) if norm else nn.Identity()
        self.fc1 = nn.Linear(hid_channels, out_channels)

    def forward(self, x: Tensor | tuple) -> tuple[Tensor]:
        """Return ``(embedding,)``, ``(N, out_channels)``.

        Args:
            x: backbone output: a map or vector, or a tuple ending in one.
        """
        return (self.fc1(self._activate(self.fc0(pool_features(x)))),)

    def forward_views(self, x: Tensor | tuple) -> tuple[Tensor, Tensor]:
        """Return the plain and the dropout embedding of the same features.

        The first layer runs once for both. In evaluation mode the two are
        equal.

        Args:
            x: backbone output: a map or vector, or a tuple ending in one.

        Returns:
            Two ``(N, out_channels)`` tensors.
        """
        hidden = self.fc0(pool_features(x))
        active = self._activate(hidden)
        plain = self.fc1(active)
        if not self.training:
            return plain, plain
        if self.place == 'linear':
            thinned = F.dropout(hidden, self.dropout[0])
            keep = nullcontext() if self.record_dropout else None
            with keep or own_statistics(self.bn0):
                thinned = self._activate(thinned)
        else:
            thinned = F.dropout(active, self.dropout[0])
        return plain, F.dropout(self.fc1(thinned), self.dropout[1])

    def _activate(self, hidden: Tensor) -> Tensor:
        return F.relu(self.bn0(hidden))
