"""Running a network over the views of a step."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..utils.pre_relu import collect_pre_relu
from ..utils.step import (
    Encodings,
    Needs,
    Step,
    last_output,
    merge_needs,
    pool_features,
    view_indices,
)

__all__ = [
    'Encodings',
    'Needs',
    'Step',
    'by_resolution',
    'encode',
    'merge_needs',
    'pool_features',
    'run_backbone',
    'view_indices',
]


def by_resolution(views: list[Tensor]) -> list[list[int]]:
    """Group view indices by shape, so that each group runs in one batch."""
    groups: dict[torch.Size, list[int]] = {}
    for index, view in enumerate(views):
        groups.setdefault(view.shape, []).append(index)
    return list(groups.values())


def _project(
    neck: nn.Module | None, features: Tensor, dropout: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the plain and, if asked for, the dropout embedding."""
    if neck is None:
        return features, None
    if dropout:
        return neck.forward_views(features)
    if hasattr(neck, 'forward_projection'):  # SwAVNeck wants all crops
        return neck.forward_projection(features), None
    # the necks of mmpretrain read the last map of a tuple
    return last_output(neck((features[:, :, None, None],))), None


def run_backbone(
    backbone: nn.Module, images: Tensor, fields: frozenset[str]
) -> tuple[Any, tuple[Tensor, ...]]:
    """Run a backbone once.

    Args:
        backbone: any.
        images: ``(B, 3, H, W)``.
        fields: names of :class:`Encodings` fields that will be read off.

    Returns:
        Its output as it is; and the pre-ReLU maps of its stages, none if
        they are not in ``fields``.
    """
    tapped = 'pre_relu_maps' in fields
    taps = collect_pre_relu(backbone) if tapped else nullcontext(())
    with taps as maps:
        output = backbone(images)
    return output, tuple(maps)


def encode(
    backbone: nn.Module,
    neck: nn.Module | None,
    views: list[Tensor],
    fields: frozenset[str],
    separate: bool = False,
    head: nn.Module | None = None,
) -> Encodings:
    """Run one network over the views of a step.

    Views of equal resolution go through the backbone in one batch; the
    features of all views go through the projector in one call, crop-major
    (rows ``vN ... (v+1)N - 1`` are view v), so its batch norm sees them
    together (SwAV).

    Args:
        backbone: maps ``(B, 3, H, W)`` to a map, a vector or a tuple.
        neck: projector, ``None`` for the features themselves.
        views: V tensors ``(N, 3, H, W)``.
        fields: names of the :class:`Encodings` fields to fill.
        separate: run each view in a batch of its own instead, so that batch
            norms see one view at a time (MoCo, DisCo).
        head: classification head of mmpretrain, for the field ``logits``.

    Returns:
        The encodings, one entry per view in each asked list.
    """
    features: list[Tensor | None] = [None] * len(views)
    maps: list[tuple[Tensor, ...] | None] = [None] * len(views)
    before_relu: list[tuple[Tensor, ...] | None] = [None] * len(views)
    logits: list[Tensor | None] = [None] * len(views)
    pooling = fields & {'features', 'embeddings', 'dropout_embeddings'}
    sizes = [len(view) for view in views]
    groups = by_resolution(views)
    if separate:
        groups = [[index] for index in range(len(views))]
    for group in groups:
        batch = [views[index] for index in group]
        images = torch.cat(batch) if len(batch) > 1 else batch[0]
        output, taps = run_backbone(backbone, images, fields)
        split = [sizes[index] for index in group]
        if pooling:
            pooled = pool_features(output).split(split)
        if 'logits' in fields:
            scores = head(output if neck is None else neck(output))
            scores = scores.split(split)
        if taps:
            tapped = list(zip(*(t.split(split) for t in taps), strict=True))
        if 'feature_maps' in fields:
            stages = output if isinstance(output, tuple) else (output,)
            parts = list(zip(*(s.split(split) for s in stages), strict=True))
        for position, index in enumerate(group):
            if pooling:
                features[index] = pooled[position]
            if 'feature_maps' in fields:
                maps[index] = parts[position]
            if 'logits' in fields:
                logits[index] = scores[position]
            if taps:
                before_relu[index] = tapped[position]
    encodings = Encodings()
    if 'features' in fields:
        encodings.features = features
    if 'feature_maps' in fields:
        encodings.feature_maps = maps
    if 'pre_relu_maps' in fields:
        encodings.pre_relu_maps = before_relu
    if 'logits' in fields:
        encodings.logits = logits
    if fields & {'embeddings', 'dropout_embeddings'}:
        batches = features if separate else [torch.cat(features)]
        for batch in batches:
            plain, dropout = _project(
                neck, batch, 'dropout_embeddings' in fields
            )
            split = [len(batch)] if separate else sizes
            encodings.embeddings += plain.split(split)
            if dropout is not None:
                encodings.dropout_embeddings += dropout.split(split)
    return encodings
