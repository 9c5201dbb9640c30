"""Pooled backbone features of a data set.

Shape legend: N images, C feature width, H, W image size.
"""

import datetime
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import (
    all_gather,
    all_reduce,
    broadcast,
    get_dist_info,
    get_world_size,
)
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmssd.models.distillers.encodings import pool_features
from mmssd.models.utils.input_statistics import input_statistics

PARTS = ('student', 'teacher', 'momentum')
GATHER_ROWS = 16_384  # of a rank in one collective, bounds device memory
PAUSE = 30.0  # seconds between two lines of progress

Batch = tuple[Tensor, list[int] | None]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode; restore the flag of every submodule after."""
    flags = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        # train() first: some networks drop caches of the eval mode there
        module.train(flags[0][1])
        for submodule, flag in flags:
            submodule.training = flag


@contextmanager
def _buffers_of_rank_zero(module: nn.Module) -> Iterator[None]:
    """Give all ranks the buffers that a checkpoint would hold, for a while.

    Running statistics of batch norms that are not synchronised differ.
    """
    if get_world_size() == 1:
        yield
        return
    own = [(buffer, buffer.clone()) for buffer in module.buffers()]
    for buffer, _ in own:
        broadcast(buffer, src=0)
    try:
        yield
    finally:
        for buffer, value in own:
            buffer.copy_(value)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DistributedDataParallel and its like."""
    while is_model_wrapper(model):
        model = model.module
    return model


def get_backbone(model: nn.Module, part: str = 'student') -> nn.Module:
    """Return the backbone of one network of a model.

    Args:
        model: a model with ``.backbone`` (any of mmpretrain's), possibly
            wrapped, or a bare backbone, which counts as the student.
        part: ``'student'``, ``'teacher'`` or ``'momentum'``.

    Raises:
        ValueError: if the part is unknown or the model lacks it.
    """
    if part not in PARTS:
        raise ValueError(f'part={part!r}: must be one of {PARTS}')
    model = unwrap(model)
    if part == 'student':
        return getattr(model, 'backbone', model)
    backbone = getattr(getattr(model, part, None), 'backbone', None)
    if backbone is None:
        raise ValueError(
            f'part={part!r}: the {type(model).__name__} has no {part} with a '
            f'backbone; evaluate another part, or configure model.{part}'
        )
    return backbone


def check_classes(sets: Mapping[str, Any]) -> None:
    """Refuse labelled sets whose labels mean different classes.

    Data sets that number the folders they find give other labels as soon as
    one of them has a folder less.

    Args:
        sets: data sets by name; those without ``metainfo['classes']`` are
            not looked at.

    Raises:
        ValueError: naming the first label that means two classes.
    """
    known: dict[str, list[str]] = {}
    for name, dataset in sets.items():
        found = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if found:
            known[f'the {name} set'] = [str(label) for label in found]
    check_class_lists(known)


def check_class_lists(known: Mapping[str, Sequence[str]]) -> None:
    """Refuse lists of classes that are not all the same.

    Args:
        known: classes in the order of their labels, by what has them.

    Raises:
        ValueError: naming the first label that means two classes.
    """
    for (first, ours), (second, theirs) in pairwise(known.items()):
        if ours == theirs:
            continue
        label, pair = next(
            (label, pair)
            for label, pair in enumerate(zip_longest(ours, theirs))
            if pair[0] != pair[1]
        )
        one, other = ('no class' if c is None else repr(c) for c in pair)
        raise ValueError(
            f'{first} has {len(ours)} classes, {second} {len(theirs)}, and '
            f'they differ: label {label} means {one} in the one and {other} '
            'in the other. Give both the same classes: folders of the same '
            'names (empty ones count), or lists (ann_file) that number the '
            'classes alike'
        )


def _stack(images: Sequence[Tensor]) -> Tensor:
    if not all(isinstance(image, Tensor) for image in images):
        raise TypeError(
            'the data set gives several views of an image: evaluate with a '
            'pipeline without MultiView'
        )
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise ValueError(
            f'images of different shapes {sorted(shapes)} in one batch: end '
            'the pipeline with a fixed size, such as ResizeEdge and '
            'CenterCrop'
        )
    return torch.stack(list(images))


def _labels_of(samples: Sequence | None) -> list[int] | None:
    if not samples or not all('gt_label' in s for s in samples):
        return None
    for sample in samples:
        if sample.gt_label.numel() != 1:
            raise ValueError(
                f'gt_label={sample.gt_label.tolist()}: expected one class '
                'per image'
            )
    return [int(sample.gt_label) for sample in samples]


class ImageBatches:
    """The batches of images that this process evaluates, without shuffling.

    With several processes each takes whole batches, neighbours in the order
    of the data, so that a batch is the same with any number of processes.
    Iterating draws nothing from the global random state by itself.

    Args:
        data: see :func:`extract_features`.
        labels: see there.
        batch_size: images per batch. Defaults to 256.
        num_workers: processes that read a data set. Defaults to 0.
        keep: keep the batches of the first pass in memory, as uint8 if the
            pipeline gives uint8. For repeated evaluation of small sets.

    Raises:
        ValueError: if there is nothing to read, or images in memory are not
            uint8 ``(N, H, W, C)`` with one label each.
    """

    def __init__(
        self,
        data: Sequence | Tensor | np.ndarray,
        labels: Tensor | np.ndarray | Sequence[int] | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        keep: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f'batch_size={batch_size}: must be at least 1')
        if not len(data):
            raise ValueError('there are no images to extract features of')
        self.data = data
        self.labels = None
        self.num_workers = num_workers
        self.in_memory = isinstance(data, (Tensor, np.ndarray))
        self.keep = keep and not self.in_memory
        self._kept: list[Batch] | None = None
        if self.in_memory:
            if not str(data.dtype).endswith('uint8') or data.ndim != 4:
                raise ValueError(
                    f'images of type {data.dtype} and shape '
                    f'{tuple(data.shape)}: expected uint8 (N, H, W, C)'
                )
            if labels is not None:
                self.labels = torch.as_tensor(labels)
                if self.labels.shape != (len(data),):
                    raise ValueError(
                        f'labels of shape {tuple(self.labels.shape)}: '
                        f'expected one for each of the {len(data)} images'
                    )
        elif labels is not None:
            raise ValueError('labels: a data set brings its own')

        rank, world_size = get_dist_info()
        spans = [
            range(start, min(start + batch_size, len(data)))
            for start in range(0, len(data), batch_size)
        ]
        share = -(-len(spans) // world_size)
        shares = [
            spans[r * share : (r + 1) * share] for r in range(world_size)
        ]
        self.spans = shares[rank]
        #: number of images of every rank
        self.sizes = [sum(map(len, part)) for part in shares]

    def _from_memory(self) -> Iterator[Batch]:
        for span in self.spans:
            rows = slice(span.start, span.stop)
            images = self.data[rows]
            if isinstance(images, np.ndarray):
                images = torch.tensor(images)
            labels = None if self.labels is None else self.labels[rows]
            yield (
                images.permute(0, 3, 1, 2),
                None if labels is None else labels.tolist(),
            )

    def _from_dataset(self) -> Iterator[Batch]:
        loader = DataLoader(
            self.data,
            batch_sampler=[list(span) for span in self.spans],
            num_workers=self.num_workers,
            collate_fn=pseudo_collate,
            # the loader draws a seed for its workers from this
            generator=torch.Generator().manual_seed(0),
        )
        for batch in loader:
            yield _stack(batch['inputs']), _labels_of(batch['data_samples'])

    def __iter__(self) -> Iterator[Batch]:
        """Yield images ``(B, C, H, W)`` and their labels, if any."""
        if self.in_memory:
            return self._from_memory()
        if not self.keep:
            return self._from_dataset()
        if self._kept is None:
            self._kept = list(self._from_dataset())
        return iter(self._kept)


def _gather_rows(rows: Tensor, sizes: list[int]) -> Tensor:
    """Join the rows of all ranks, ``sizes[r]`` of rank r, in rank order."""
    parts: list[list[Tensor]] = [[] for _ in sizes]
    for start in range(0, max(sizes), GATHER_ROWS):
        length = min(GATHER_ROWS, max(sizes) - start)
        block = rows.new_zeros(length, *rows.shape[1:])
        own = rows[start : start + length]
        block[: len(own)] = own
        for part, received in zip(parts, all_gather(block), strict=True):
            part.append(received)
    return torch.cat(
        [
            torch.cat(part)[:size]
            for part, size in zip(parts, sizes, strict=True)
        ]
    )


class _Progress:
    """Say now and then how many images are done, where that takes long."""

    def __init__(self, parts: Sequence[str], total: int) -> None:
        self.name = f'Features({"_".join(parts)})'
        self.total = total
        self.begin = self.shown = time.monotonic()

    def __call__(self, done: int) -> None:
        """Print a line, in the form of mmengine's, every ``PAUSE``."""
        now = time.monotonic()
        if now - self.shown < PAUSE or get_dist_info()[0]:
            return
        self.shown = now
        left = (now - self.begin) * (self.total - done) / done
        eta = datetime.timedelta(seconds=round(left))
        # MMLogger writes where the tools write their results, to stdout
        print(
            f'{self.name} [{done}/{self.total}] eta: {eta}',
            file=sys.stderr,
            flush=True,
        )


def _join_ranks(
    features: dict[str, Tensor], labels: Tensor, sizes: list[int]
) -> tuple[dict[str, Tensor], Tensor]:
    # a rank without a batch does not know the widths
    widths = torch.tensor([rows.size(1) for rows in features.values()])
    all_reduce(widths, 'max')
    features = {
        part: _gather_rows(rows.reshape(len(rows), width), sizes)
        for (part, rows), width in zip(
            features.items(), widths.tolist(), strict=True
        )
    }
    labelled = torch.tensor(len(labels))
    all_reduce(labelled, 'sum')
    if labelled == sum(sizes):
        return features, _gather_rows(labels, sizes)
    return features, labels.new_empty(int(labelled))


def _check_input(teacher: nn.Module, data_preprocessor: nn.Module) -> None:
    """Refuse to normalise anew what another preprocessor normalised."""
    expected = getattr(teacher, 'student_input', None)
    found = input_statistics(data_preprocessor)
    if getattr(teacher, 'input', None) is None or expected is None:
        return
    if found is None or not found.agrees(expected):
        raise ValueError(
            f'the teacher re-normalises what the model gives, {expected}, '
            f'but the data_preprocessor passed gives {found}: pass the '
            "model's own"
        )


@torch.no_grad()
def extract_parts(
    model: nn.Module,
    batches: ImageBatches,
    parts: Sequence[str] = ('student',),
    data_preprocessor: nn.Module | None = None,
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Extract the features of several networks in one pass over the data.

    Args:
        model: see :func:`extract_features`.
        batches: images and labels.
        parts: networks, out of ``'student'``, ``'teacher'``,
            ``'momentum'``.
        data_preprocessor: see :func:`extract_features`.

    Returns:
        ``{part: (N, C) float32}`` and ``(N,)`` labels or ``None``, see
        :func:`extract_features`.

    Raises:
        ValueError: see there.
        TypeError: see there.
    """
    backbones = {part: get_backbone(model, part) for part in parts}
    for part in backbones:
        network = getattr(unwrap(model), part, None)
        if hasattr(network, 'ensure_loaded'):
            network.ensure_loaded()
    own = getattr(unwrap(model), 'data_preprocessor', None)
    if data_preprocessor is None:
        data_preprocessor = own
    adapt = {
        part: getattr(getattr(unwrap(model), part, None), 'adapt', None)
        for part in backbones
    }
    if data_preprocessor is not own and 'teacher' in backbones:
        _check_input(unwrap(model).teacher, data_preprocessor)

    rows: dict[str, list[Tensor]] = {part: [] for part in backbones}
    found: list[int] = []
    done, progress = 0, _Progress(parts, sum(map(len, batches.spans)))
    with ExitStack() as stack:
        for backbone in backbones.values():
            stack.enter_context(evaluating(backbone))
            stack.enter_context(_buffers_of_rank_zero(backbone))
        for images, labels in batches:
            found.extend(labels or [])
            if data_preprocessor is not None:
                batch = dict(inputs=images, data_samples=None)
                images = data_preprocessor(batch, False)['inputs']
                if isinstance(images, (list, tuple)):
                    images = images[0]  # others are targets
            elif images.dtype == torch.uint8:
                raise ValueError(
                    f'{type(model).__name__} has no data_preprocessor to '
                    'normalise uint8 images: pass data_preprocessor'
                )
            for part, backbone in backbones.items():
                weight = next(backbone.parameters(), images)
                views = [images.to(weight.device)]
                if adapt[part] is not None:
                    views = adapt[part](views)
                output = backbone(views[0])
                rows[part].append(pool_features(output).float().cpu())
            done += len(images)
            progress(done)
    features = {
        part: torch.cat(blocks) if blocks else torch.empty(0, 0)
        for part, blocks in rows.items()
    }
    labels = torch.tensor(found, dtype=torch.long)
    if len(batches.sizes) > 1:
        features, labels = _join_ranks(features, labels, batches.sizes)
    if 0 < len(labels) < sum(batches.sizes):
        raise ValueError(
            f'gt_label is missing in the batches of some images; at least '
            f'{len(labels)} of {sum(batches.sizes)} have one: label all or '
            'none'
        )
    return features, labels if len(labels) else None


def extract_features(
    model: nn.Module,
    data: Sequence | Tensor | np.ndarray,
    part: str = 'student',
    labels: Tensor | np.ndarray | Sequence[int] | None = None,
    batch_size: int = 256,
    num_workers: int = 0,
    data_preprocessor: nn.Module | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Extract the pooled backbone features of all images.

    The network runs in eval mode without gradient, in the precision of its
    weights; the mode of every submodule is restored afterwards. Images are
    normalised by the model's data preprocessor and not augmented. With
    several processes each takes a share of the batches, with the buffers of
    rank 0, and all get the whole result, in the order of the data.

    Args:
        model: a model with ``.backbone``, possibly wrapped, or a bare
            backbone.
        data: a data set whose items are ``dict(inputs=(C, H, W) tensor,
            data_samples=DataSample)`` of one size, as ``PackInputs`` gives
            after an evaluation pipeline; or images in memory, uint8
            ``(N, H, W, C)``, in the channel order that the data preprocessor
            expects (BGR if it has ``to_rgb=True``).
        part: ``'student'``, ``'teacher'`` or ``'momentum'``: whose backbone.
        labels: ``(N,)`` class indices of images in memory.
        batch_size: images per batch and process. Defaults to 256.
        num_workers: processes that read the data set. Defaults to 0.
        data_preprocessor: instead of the model's own; needed for uint8
            images and a bare backbone.

    Returns:
        features ``(N, C)`` in float32 and class indices ``(N,)``, both on
        the CPU; ``None`` for the labels if the data have none.

    Raises:
        ValueError: if there are no images, they differ in shape, only some
            have a label, the model lacks the part, or nothing normalises
            uint8 images.
        TypeError: if an item holds several views.
    """
    batches = ImageBatches(data, labels, batch_size, num_workers)
    features, found = extract_parts(model, batches, (part,), data_preprocessor)
    return features[part], found
