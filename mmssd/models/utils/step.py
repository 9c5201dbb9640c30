"""What the networks of one training step saw, and what a head may ask for.

Shape legend: N images of this process, V views, C feature width,
D embedding width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

NETWORKS = ('student', 'teacher', 'momentum')
FIELDS = (
    'features',
    'embeddings',
    'dropout_embeddings',
    'feature_maps',
    'pre_relu_maps',
    'logits',
)
VIEWS = ('global', 'all')


@dataclass
class Encodings:
    """Outputs of one network, one tensor per view, global crops first.

    A field that no head asked for is an empty list. A network that was run
    on the global crops alone has lists of that length; views that it did
    not see before one that it saw are ``None``.

    Attributes:
        features: pooled backbone outputs, each ``(N, C)``.
        embeddings: projector outputs, each ``(N, D)``, as the projector
            gives them (objectives normalise where their method does).
        dropout_embeddings: projector outputs of the extra dropout pass,
            each ``(N, D)``.
        feature_maps: the backbone's tuple of stage outputs per view.
        pre_relu_maps: per view the tuple of the backbone's stages before
            their last ReLU, see :func:`~mmssd.models.utils.collect_pre_relu`.
        logits: outputs of the network's classification head, each
            ``(N, classes)``.
    """

    features: list[Tensor] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    dropout_embeddings: list[Tensor] = field(default_factory=list)
    feature_maps: list[tuple[Tensor, ...]] = field(default_factory=list)
    pre_relu_maps: list[tuple[Tensor, ...]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def apply(self, function: Callable[[Tensor], Tensor]) -> 'Encodings':
        """Return the encodings after a function of each tensor."""

        def walk(value):
            if isinstance(value, Tensor):
                return function(value)
            return tuple(walk(item) for item in value)

        return Encodings(
            **{
                name: [walk(value) for value in getattr(self, name)]
                for name in FIELDS
            }
        )

    def placed(self, indices: Sequence[int]) -> 'Encodings':
        """Return the encodings with each entry at its view's index.

        Args:
            indices: ascending, the view of each entry.
        """

        def place(values: list) -> list:
            if not values:
                return []
            result = [None] * (indices[-1] + 1)
            for index, value in zip(indices, values, strict=True):
                result[index] = value
            return result

        return Encodings(
            **{name: place(getattr(self, name)) for name in FIELDS}
        )


@dataclass
class Step:
    """Everything a head may read in one training step.

    Attributes:
        student: encodings of the student.
        teacher: encodings of the teacher, ``None`` without one.
        momentum: encodings of the momentum student, ``None`` without one.
        data_samples: labels and meta data of the N images, if any.
        num_global: how many of the views are global crops.
        progress: completed fraction of the training in [0, 1]; ``None``
            outside a runner.
        ends_update: whether the weights are updated after this step; False
            for all but the last of several whose gradients are added up.
    """

    student: Encodings
    teacher: Encodings | None = None
    momentum: Encodings | None = None
    data_samples: list[Any] | None = None
    num_global: int = 1
    progress: float | None = None
    ends_update: bool = True


@dataclass(frozen=True)
class Needs:
    """What a head asks the distiller to compute.

    Args:
        student, teacher, momentum: names of :class:`Encodings` fields to
            compute for that network; empty = the network is not needed.
        student_views, teacher_views, momentum_views: which views that
            network must see: ``'all'``, the ``'global'`` crops, or indices
            of global crops, such as ``(0,)``.
        min_global: least number of global crops; more than any index.

    Raises:
        ValueError: if a field or a view set has an unknown name, or an
            index is out of range.
    """

    student: frozenset[str] = frozenset()
    teacher: frozenset[str] = frozenset()
    momentum: frozenset[str] = frozenset()
    student_views: str | tuple[int, ...] = 'all'
    teacher_views: str | tuple[int, ...] = 'all'
    momentum_views: str | tuple[int, ...] = 'all'
    min_global: int = 1

    def __post_init__(self) -> None:
        for network in NETWORKS:
            asked = frozenset(getattr(self, network))
            unknown = asked - set(FIELDS)
            if unknown:
                raise ValueError(
                    f'needs of the {network}: unknown field(s) '
                    f'{sorted(unknown)}; known are {list(FIELDS)}'
                )
            object.__setattr__(self, network, asked)
        for network in NETWORKS:
            self._check_views(f'{network}_views')

    def _check_views(self, name: str) -> None:
        views = getattr(self, name)
        if isinstance(views, str):
            if views not in VIEWS:
                raise ValueError(
                    f'{name}={views!r}: must be one of {VIEWS}, or indices'
                )
            return
        indices = tuple(sorted(set(views)))
        if not indices or not 0 <= indices[0] <= indices[-1] < self.min_global:
            raise ValueError(
                f'{name}={views!r}: indices of global crops, of which '
                f'there are at least min_global={self.min_global}'
            )
        object.__setattr__(self, name, indices)


def _union(views: list[str | tuple[int, ...]]) -> str | tuple[int, ...]:
    for name in ('all', 'global'):
        if name in views:
            return name
    return tuple(sorted(set().union(*views))) or 'all'


def view_indices(
    views: str | tuple[int, ...], number: int, num_global: int
) -> list[int]:
    """Return the views that a set of :class:`Needs` names.

    Args:
        views: ``'all'``, ``'global'`` or indices.
        number: of views.
        num_global: how many of them are global crops.
    """
    if views == 'all':
        return list(range(number))
    return list(range(num_global)) if views == 'global' else list(views)


def merge_needs(needs: list[Needs]) -> Needs:
    """Return the union of what several heads ask for."""
    merged: dict[str, Any] = {
        network: frozenset().union(*(getattr(n, network) for n in needs))
        for network in NETWORKS
    }
    for network in NETWORKS:
        merged[f'{network}_views'] = _union(
            [
                getattr(n, f'{network}_views')
                for n in needs
                if getattr(n, network)
            ]
        )
    merged['min_global'] = max((n.min_global for n in needs), default=1)
    return Needs(**merged)


def last_output(output: Tensor | tuple | list) -> Tensor:
    """Return the last stage of a backbone's output (tuple or tensor)."""
    while isinstance(output, (tuple, list)):
        if not output:
            raise ValueError('the backbone returned an empty tuple')
        output = output[-1]
    if not isinstance(output, Tensor):
        raise TypeError(
            'a backbone must return a tensor or a tuple of tensors, got '
            f'{type(output).__name__}'
        )
    return output


def pool_features(output: Tensor | tuple | list) -> Tensor:
    """Pool a backbone's last stage into one vector per image.

    Args:
        output: a map ``(N, C, H, W)``, a vector ``(N, C)``, or a tuple of
            stages whose last one is meant.

    Returns:
        ``(N, C)``: the mean over H and W of a map; a vector as it is.

    Raises:
        ValueError: for any other number of dimensions (tokens of a vision
            transformer: set its ``out_type`` to a pooled one, or of timm
            ``features_only``).
        TypeError: if the output holds no tensor.
    """
    x = last_output(output)
    if x.dim() == 4:
        return F.adaptive_avg_pool2d(x, 1).flatten(1)
    if x.dim() == 2:
        return x
    raise ValueError(
        f'cannot pool a backbone output of shape {tuple(x.shape)}: expected '
        '(N, C, H, W) or (N, C); a transformer needs out_type="cls_token" '
        'or "avg_featmap", one of timm features_only=True'
    )
