"""The views that a config feeds to its networks in training.

Shape legend: N images, V views, H, W size of a view.
"""

import copy
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import (
    DATASETS,
    FUNCTIONS,
    MODELS,
    TRANSFORMS,
    DefaultScope,
)
from mmpretrain.models.selfsup.base import BaseSelfSupervisor
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmssd.apis.config import set_dataloaders
from mmssd.datasets.seeded_views import SeededViews, seeded, with_key
from mmssd.models.utils.input_statistics import input_statistics
from mmssd.models.utils.step import NETWORKS, view_indices

from .networks import check_indices, converts, denormalise


@dataclass
class Views:
    """What a batch of training holds.

    Attributes:
        sources: the N images before the augmentation, ``(H, W, 3)`` uint8,
            RGB.
        inputs: V views ``(N, 3, H, W)`` as the networks see them.
        pictures: the same as pixels, each ``(N, H, W, 3)`` uint8, RGB.
        labels: of each view: index, kind, size in pixels, who sees it.
        notes: of each image: which of the fixed draws of ``SeededViews`` it
            is, else empty.
    """

    sources: list[np.ndarray]
    inputs: list[Tensor]
    pictures: list[np.ndarray]
    labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _sets(config: Config) -> Iterator[dict]:
    """Yield the training set of a config and the first ones inside it."""
    dataset = (config.get('train_dataloader') or {}).get('dataset')
    while isinstance(dataset, dict):
        yield dataset
        if 'pipeline' in dataset:
            return
        dataset = dataset.get('dataset') or (dataset.get('datasets') or [0])[0]


def training_set(config: Config) -> dict:
    """Return the innermost training set of a config, the first of several.

    Raises:
        ValueError: if the config has none.
    """
    for dataset in _sets(config):
        if 'pipeline' in dataset:
            return dataset
    raise ValueError(
        'the config has no train_dataloader.dataset with a pipeline'
    )


def fixed_draws(config: Config) -> SeededViews | None:
    """Return what draws the views of a config in advance, without images."""
    for dataset in _sets(config):
        kind = dataset.get('type')
        name = kind if isinstance(kind, str) else kind.__name__
        if name.rpartition('.')[2] == SeededViews.__name__:
            settings = {
                name: dataset[name]
                for name in ('draws', 'seed')
                if name in dataset
            }
            return SeededViews([], **settings)
    return None


def training_preprocessor(config: Config) -> nn.Module:
    """Build the data preprocessor of a config as its model would."""
    settings = copy.deepcopy(
        config.model.get('data_preprocessor')
        or config.get('data_preprocessor')
        or {}
    )
    with MODELS.switch_scope_and_registry(config.get('default_scope')) as root:
        if 'type' not in settings:
            kind = root.get(config.model.type)
            default = 'ClsDataPreprocessor'
            if kind is not None and issubclass(kind, BaseSelfSupervisor):
                default = 'SelfSupDataPreprocessor'
            settings['type'] = default
        return root.build(settings)


def _read(
    config: Config, paths: Sequence[str] | None, indices: Sequence[int]
) -> tuple[list[dict], list[np.ndarray], list[str]]:
    """Run the training pipeline; return its items, where they began, notes.

    Views that are drawn in advance start from their seeds, those of files as
    if they were the first images of the data set.
    """
    dataset = training_set(config)
    if paths:
        known = list(dict.fromkeys(paths))
        indices = [known.index(path) for path in paths]
        infos = [dict(img_path=path, instances=[]) for path in paths]
        pipeline = dataset['pipeline']
    else:
        with DATASETS.switch_scope_and_registry(None) as registry:
            built = registry.build(dataset)
        if not getattr(built, '_fully_initialized', True):
            built.full_init()
        check_indices('--indices', indices, len(built))
        infos = [built.get_data_info(index) for index in indices]
        pipeline = dataset['pipeline']
    with TRANSFORMS.switch_scope_and_registry(None) as registry:
        transforms = [registry.build(transform) for transform in pipeline]
    fixed = fixed_draws(config)
    if fixed is None:
        return *run_pipeline(infos, transforms), [''] * len(infos)
    items, sources, notes = [], [], []
    for index, info in zip(indices, infos, strict=True):
        draw = int(torch.randint(fixed.draws, ()))
        key = (fixed.seed, index, draw)
        with seeded(key):
            (item,), (source,) = run_pipeline([info], transforms)
        items.append(with_key(item, key))
        sources.append(source)
        notes.append(f'fixed draw {draw + 1} of {fixed.draws}')
    return items, sources, notes


def run_pipeline(
    infos: Sequence[dict], transforms: Sequence
) -> tuple[list[dict], list[np.ndarray]]:
    """Run transforms; return the results, and the images they began with.

    Args:
        infos: of images, as a data set gives them.
        transforms: built.

    Raises:
        ValueError: if an image cannot be read, or none is loaded.
    """
    items, sources = [], []
    for info in infos:
        results, source = info, info.get('img')
        for transform in transforms:
            if source is None and isinstance(results.get('img'), np.ndarray):
                source = results['img'].copy()
            results = transform(results)
            if results is None:
                raise ValueError(
                    f'{info.get("img_path", "an image")}: cannot be read'
                )
        if source is None:
            raise ValueError(
                'the training pipeline loads no image (LoadImage)'
            )
        items.append(results)
        sources.append(np.array(source))
    return items, sources


def collate(config: Config, items: list[dict]) -> dict:
    """Make a batch as the training loader of a config does."""
    config = copy.deepcopy(config)
    set_dataloaders(config)
    kind = (config.get('train_dataloader') or {}).get('collate_fn')
    if not kind:
        return pseudo_collate(items)
    kind = dict(kind)
    function = FUNCTIONS.get(kind.pop('type'))
    return function(items, **kind)


def make_views(
    config: Config,
    paths: Sequence[str] | None = None,
    indices: Sequence[int] = (0,),
    seed: int = 0,
) -> Views:
    """Make a batch of a config's training, on the CPU.

    Its own pipeline and its own data preprocessor make the views, whether
    they come from the loader or from the device.

    Args:
        config: loaded.
        paths: of images to take; or
        indices: of images of the training set, of the first one if there are
            several. Defaults to the first image.
        seed: of all random draws; of ``SeededViews``, of which of its fixed
            draws comes up. Defaults to 0.

    Raises:
        FileNotFoundError: if the data are not there.
        ValueError: if the config trains nothing, or an image cannot be read.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    scope = config.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        preprocessor = training_preprocessor(config)
        items, sources, notes = _read(config, paths, indices)
        inputs = feed(config, preprocessor, items)
        labels = label_views(config, inputs)
    settings = config.model.get('data_preprocessor') or config.get(
        'data_preprocessor'
    )
    statistics = input_statistics(settings)
    if converts(preprocessor):
        sources = [source[..., ::-1] for source in sources]
    return Views(
        [np.ascontiguousarray(source) for source in sources],
        inputs,
        [denormalise(view, statistics).numpy() for view in inputs],
        labels,
        notes,
    )


def feed(
    config: Config, preprocessor: nn.Module, items: list[dict]
) -> list[Tensor]:
    """Collate items and preprocess them for training.

    Returns:
        V views ``(N, 3, H, W)``.
    """
    batch = collate(config, items)
    inputs = preprocessor(batch, True)['inputs']
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def view_sizes(
    config: Config, source: tuple[int, int] = (375, 500)
) -> list[tuple[int, int]]:
    """Return height and width of each view of a training image.

    An image of noise goes through the pipeline and the data preprocessor,
    so that no data are needed.

    Args:
        config: loaded; its pipeline begins with the loading of the image, or
            does without.
        source: height and width of that image. Matters only where no crop
            has a fixed size.

    Raises:
        ValueError: if the config trains nothing.
    """
    scope = config.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        pipeline = list(training_set(config)['pipeline'])
        if str(pipeline[0]['type']).rpartition('.')[2].startswith('Load'):
            del pipeline[0]
        with TRANSFORMS.switch_scope_and_registry(None) as registry:
            transforms = [registry.build(t) for t in pipeline]
        noise = np.random.default_rng(0).integers(
            0, 256, (*source, 3), dtype=np.uint8
        )
        info = dict(img=noise, img_shape=source, ori_shape=source)
        items, _ = run_pipeline([info], transforms)
        views = feed(config, training_preprocessor(config), items)
    return [tuple(view.shape[2:]) for view in views]


def seen_by(model: nn.Module, views: Sequence[Tensor]) -> list[list[str]]:
    """Tell which networks of a distiller see each view.

    Args:
        model: a ``Distiller``.
        views: V tensors.

    Raises:
        SetupError: if the views do not suffice for a head.
    """
    num_global = model._count_global(list(views))
    found: list[list[str]] = [[] for _ in views]
    for name in NETWORKS:
        if not getattr(model.needs, name):
            continue
        kind = getattr(model.needs, f'{name}_views')
        for index in view_indices(kind, len(views), num_global):
            found[index].append(name)
    return found


class _RealSchedules(TorchFunctionMode):
    """Keep real what a constructor reads: the rates of dropped paths."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.linspace:
            kwargs = {'device': 'cpu', **kwargs}
        return func(*args, **kwargs)


def build_on_meta(config: Config) -> nn.Module:
    """Build the model of a config without memory or weights."""
    settings = copy.deepcopy(config.model)
    with (
        MODELS.switch_scope_and_registry(config.get('default_scope')) as root,
        torch.device('meta'),
        _RealSchedules(),
    ):
        return root.build(settings)


def label_views(config: Config, views: Sequence[Tensor]) -> list[str]:
    """Say of each view its index, kind, size and who sees it."""
    sizes = [f'{v.size(-1)} x {v.size(-2)} px' for v in views]
    model = build_on_meta(config)
    if not hasattr(model, 'needs') or not hasattr(model, '_count_global'):
        return [
            f'view {index + 1}\n{size}' for index, size in enumerate(sizes)
        ]
    num_global = model._count_global(list(views))
    return [
        f'view {index + 1}, {"global" if index < num_global else "small"}\n'
        f'{size}\nto {", ".join(names) or "no network"}'
        for index, (size, names) in enumerate(
            zip(sizes, seen_by(model, views), strict=True)
        )
    ]
