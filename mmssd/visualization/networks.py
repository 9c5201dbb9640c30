"""The networks and images that the tools for pictures compare."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, TRANSFORMS
from torch import Tensor, nn

from mmssd.apis.config import load_config
from mmssd.evaluation.features import PARTS, check_classes, get_backbone
from mmssd.evaluation.from_config import (
    build_network,
    labelled_sets,
    place_of,
)
from mmssd.models.utils.input_statistics import InputStatistics

UNTRAINED = 'random'
# for configs that name no evaluation: ImageNet's
EVALUATION = (
    dict(type='LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
)


@dataclass
class Network:
    """A trained network, as one column of a picture.

    Attributes:
        name: its title.
        config: of its run.
        model: what the config builds, in eval mode.
        part: of the model: ``'student'``, ``'teacher'`` or ``'momentum'``.
    """

    name: str
    config: Config
    model: nn.Module
    part: str = 'student'

    @property
    def backbone(self) -> nn.Module:
        """The backbone of its part."""
        return get_backbone(self.model, self.part)

    def prepare(self, images: Tensor) -> Tensor:
        """Turn ``(N, 3, H, W)`` pixels into what the backbone sees."""
        found = self.model.data_preprocessor(
            dict(inputs=images, data_samples=None), False
        )['inputs']
        view = found[0] if isinstance(found, (list, tuple)) else found
        network = getattr(self.model, self.part, None)
        if hasattr(network, 'ensure_loaded'):
            network.ensure_loaded()
        if hasattr(network, 'adapt'):
            (view,) = network.adapt([view])
        return view


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Add the argument ``--network``."""
    parser.add_argument(
        '--network',
        nargs='+',
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG CHECKPOINT PART'),
        help='title, config and checkpoint of a network to draw, and its '
        f'part, one of {", ".join(PARTS)} (default: student); may be given '
        f'several times; CHECKPOINT {UNTRAINED}: untrained',
    )


def check_networks(given: Sequence[Sequence[str]]) -> None:
    """Refuse what ``--network`` names before long work starts.

    Raises:
        FileNotFoundError: if there is no such config or checkpoint.
        ValueError: if a value is missing.
    """
    for values in given:
        if len(values) not in (3, 4):
            raise ValueError(
                f'--network {" ".join(values)}: give NAME CONFIG CHECKPOINT, '
                'and perhaps PART'
            )
        checkpoint = values[2]
        if checkpoint != UNTRAINED and not Path(checkpoint).is_file():
            raise FileNotFoundError(
                f'--network {values[0]}: there is no checkpoint {checkpoint}'
            )
        if not Path(values[1]).is_file():
            raise FileNotFoundError(
                f'--network {values[0]}: there is no config {values[1]}'
            )


def read_networks(given: Sequence[Sequence[str]]) -> list[Network]:
    """Build and load what ``--network`` names.

    Args:
        given: name, config, checkpoint and perhaps part of each.

    Raises:
        FileNotFoundError: see :func:`check_networks`.
        ValueError: see there; or if the file does not fit.
    """
    check_networks(given)
    networks = []
    for name, path, checkpoint, *rest in given:
        part = rest[0] if rest else 'student'
        config = load_config(path)
        scope = config.get('default_scope') or 'mmpretrain'
        with DefaultScope.overwrite_default_scope(scope):
            model = build_network(
                config, None if checkpoint == UNTRAINED else checkpoint, part
            )
        networks.append(Network(name, config, model, place_of(model, part)))
    return networks


def build_sets(
    config: Config, names: Sequence[str] = ('bank', 'query')
) -> list:
    """Build data sets that a config names for evaluation.

    Args:
        config: see :func:`mmssd.evaluation.from_config.labelled_sets`.
        names: of the sets.

    Raises:
        ValueError: if the config names none, or they number their classes
            differently.
    """
    sets = labelled_sets(config)
    with DefaultScope.overwrite_default_scope(
        config.get('default_scope') or 'mmpretrain'
    ):
        built = {name: DATASETS.build(sets[name]) for name in names}
    check_classes(built)
    return list(built.values())


def class_names(dataset) -> Sequence[str] | None:
    """Return the names of the classes of a data set, if it has any."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def read_images(config: Config, paths: Sequence[str]) -> list[Tensor]:
    """Read image files as a config's test, or else its query set, does.

    A config without either reads as ImageNet is evaluated: the centre of 224
    pixels out of 256.

    Args:
        config: loaded.
        paths: of the images.

    Returns:
        ``(3, H, W)`` uint8 tensors, before the data preprocessor.

    Raises:
        ValueError: if an image cannot be read.
        FileNotFoundError: naming an image that does not exist.
    """
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f'there is no image {path}')
    loader = config.get('test_dataloader') or config.get('val_dataloader')
    if loader:
        pipeline = loader.dataset.pipeline
    else:
        try:
            pipeline = labelled_sets(config)['query'].pipeline
        except ValueError:
            pipeline = EVALUATION
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        if not str(pipeline[0]['type']).rpartition('.')[2].startswith('Load'):
            # its data set has the pixels already
            pipeline = [dict(type='LoadImage', channel_order='rgb'), *pipeline]
        transforms = [TRANSFORMS.build(transform) for transform in pipeline]
    images = []
    for path in paths:
        results = dict(img_path=path)
        for transform in transforms:
            results = transform(results)
            if results is None:
                raise ValueError(f'{path}: cannot be read as an image')
        images.append(results['inputs'])
    return images


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the arguments ``--images`` and ``--queries``, one of them needed."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        '--images', nargs='+', metavar='FILE', help='image files'
    )
    group.add_argument(
        '--queries',
        type=int,
        nargs='+',
        metavar='INDEX',
        help='or images of the query set that the config names',
    )


def take_images(
    config: Config, paths: Sequence[str] | None, indices: Sequence[int] | None
) -> dict[str, Tensor]:
    """Return the images that ``--images`` or ``--queries`` name.

    Args:
        config: whose pipeline reads them.
        paths: of files; or
        indices: of the query set.

    Returns:
        ``(3, H, W)`` uint8 tensors by a short name.

    Raises:
        FileNotFoundError: see :func:`read_images`.
        ValueError: see there; or if there is no such index.
    """
    if paths:
        images = read_images(config, paths)
        names = [Path(path).stem for path in paths]
        if len(set(names)) < len(names):
            names = list(paths)
        return dict(zip(names, images, strict=True))
    (queries,) = build_sets(config, ['query'])
    check_indices('--queries', indices, len(queries))
    return {f'image {index}': queries[index]['inputs'] for index in indices}


def stack_images(images: dict[str, Tensor]) -> Tensor:
    """Join the images of :func:`take_images` to ``(N, 3, H, W)``.

    Raises:
        ValueError: if they differ in size.
    """
    sizes = {tuple(image.shape[1:]) for image in images.values()}
    if len(sizes) > 1:
        raise ValueError(
            f'images of different sizes {sorted(sizes)}: let the pipeline '
            'end with a fixed one, such as ResizeEdge and CenterCrop'
        )
    return torch.stack(list(images.values()))


def check_indices(option: str, indices: Sequence[int], number: int) -> None:
    """Raise ``ValueError`` unless all indices are below a number."""
    for index in indices:
        if not 0 <= index < number:
            raise ValueError(
                f'{option} {index}: there are {number} images, the first is 0'
            )


def to_picture(image: Tensor, preprocessor: nn.Module) -> np.ndarray:
    """Turn an image before the data preprocessor into one to draw.

    Args:
        image: ``(3, H, W)`` uint8.
        preprocessor: which tells whether the image is BGR.

    Returns:
        ``(H, W, 3)`` uint8, RGB.
    """
    pixels = image.permute(1, 2, 0).numpy()
    if converts(preprocessor):
        pixels = pixels[..., ::-1]
    return np.ascontiguousarray(pixels)


def converts(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor turns BGR into RGB."""
    return bool(
        getattr(preprocessor, '_channel_conversion', False)
        or getattr(preprocessor, 'to_rgb', False)
    )


def denormalise(view: Tensor, statistics: InputStatistics | None) -> Tensor:
    """Turn what a network sees back into pixels.

    Args:
        view: ``(N, 3, H, W)``.
        statistics: how it was normalised; ``None``: not at all.

    Returns:
        ``(N, H, W, 3)`` uint8, RGB, on the CPU.
    """
    view = view.detach().float().cpu()
    if statistics is not None:
        mean, std = (
            view.new_tensor(values).view(3, 1, 1)
            for values in (statistics.mean, statistics.std)
        )
        view = view * std + mean
        if statistics.channel_order == 'BGR':
            view = view.flip(1)
    return view.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
