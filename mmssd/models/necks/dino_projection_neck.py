"""Projector of DINO up to its bottleneck."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.step import pool_features


@MODELS.register_module()
class DINOProjectionNeck(BaseModule):
    """fc - [bn] - gelu - fc - [bn] - gelu - fc - normalise.

    "Emerging Properties in Self-Supervised Vision Transformers" (Caron et
    al., https://arxiv.org/abs/2104.14294), section 3.1: three linear layers
    and L2 normalisation. DINO's last layer, which scores
    prototypes, is not part of it.

    Args:
        in_channels (int): width of the features.
        hid_channels (int): width of the two hidden layers. Defaults to
            2048.
        out_channels (int): width of the bottleneck. Defaults to 256.
        norm (bool): batch normalisation after the hidden layers, as DINO
            has for ResNets, not for transformers. Defaults to False.
        init_cfg (dict, optional): mmengine's initialisation config;
            PyTorch's own initialisation by default.

    Raises:
        ValueError: for a width below 1.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int = 2048,
        out_channels: int = 256,
        norm: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        widths = (in_channels, hid_channels, hid_channels, out_channels)
        if min(widths) < 1:
            raise ValueError(
                f'in_channels={in_channels}, hid_channels={hid_channels}, '
                f'out_channels={out_channels}: all must be >= 1'
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(
            zip(widths[:-1], widths[1:], strict=True)
        ):
            layers.append(nn.Linear(before, after))
            if index < len(widths) - 2:
                if norm:
                    layers.append(nn.BatchNorm1d(after))
                layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor | tuple) -> tuple[Tensor]:
        """Return ``(embedding,)``, ``(N, out_channels)``, unit rows.

        Args:
            x: backbone output: a map or vector, or a tuple ending in one.
        """
        return (F.normalize(self.mlp(pool_features(x)), dim=1),)
