"""What the networks of one training step saw, and what a head may ask for.

Shape legend: N images of this process, V views, C feature width,
D embedding width.
"""

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
    'logits',
)
VIEWS = ('global', 'all')


@dataclass
class Encodings:
    """Outputs of one network, one tensor per view, global crops first.

    A field that no head asked for is an empty list. A network that was run
    on the global crops alone has lists of that length.

    Attributes:
        features: pooled backbone outputs, each ``(N, C)``.
        embeddings: projector outputs, each ``(N, D)``, as the projector
            gives them (objectives normalise where their method does).
        dropout_embeddings: projector outputs of the extra dropout pass,
            each ``(N, D)``.
        feature_maps: the backbone's tuple of stage outputs per view.
        logits: outputs of the network's classification head, each
            ``(N, classes)``.
    """

    features: list[Tensor] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    dropout_embeddings: list[Tensor] = field(default_factory=list)
    feature_maps: list[tuple[Tensor, ...]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)


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
    """

    student: Encodings
    teacher: Encodings | None = None
    momentum: Encodings | None = None
    data_samples: list[Any] | None = None
    num_global: int = 1
    progress: float | None = None


@dataclass(frozen=True)
class Needs:
    """What a head asks the distiller to compute.

    Args:
        student, teacher, momentum: names of :class:`Encodings` fields to
            compute for that network; empty = the network is not needed.
        teacher_views, momentum_views: ``'global'`` when the head reads only
            the global crops of that network, else ``'all'``.
        min_global: least number of global crops.

    Raises:
        ValueError: if a field or a view set has an unknown name.
    """

    student: frozenset[str] = frozenset()
    teacher: frozenset[str] = frozenset()
    momentum: frozenset[str] = frozenset()
    teacher_views: str = 'all'
    momentum_views: str = 'all'
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
        for name in ('teacher_views', 'momentum_views'):
            if getattr(self, name) not in VIEWS:
                raise ValueError(
                    f'{name}={getattr(self, name)!r}: must be one of {VIEWS}'
                )

    @property
    def student_views(self) -> str:
        """The student always sees every view."""
        return 'all'


def merge_needs(needs: list[Needs]) -> Needs:
    """Return the union of what several heads ask for."""
    merged: dict[str, Any] = {
        network: frozenset().union(*(getattr(n, network) for n in needs))
        for network in NETWORKS
    }
    for network in ('teacher', 'momentum'):
        views = {
            getattr(n, f'{network}_views')
            for n in needs
            if getattr(n, network)
        }
        merged[f'{network}_views'] = 'global' if views == {'global'} else 'all'
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
            transformer: set its ``out_type`` to a pooled one).
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
        'or "avg_featmap"'
    )
