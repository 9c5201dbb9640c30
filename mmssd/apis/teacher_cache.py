"""Making and using a cache of a frozen teacher, by config."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mmssd.datasets.seeded_views import SeededViews
from mmssd.evaluation.from_config import labelled_sets
from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.encodings import encode
from mmssd.models.distillers.teacher_cache import (
    FIELDS,
    TeacherCache,
    hash_of,
    recipe_of,
)
from mmssd.models.utils.plan import SetupError
from mmssd.models.utils.step import Encodings, view_indices

SETTINGS = dict(path=None, draws=10, seed=0, dtype='float32')
INTERVAL = 20.0  # seconds between two messages, and two writes to disk


def cache_settings(cfg: Config) -> dict | None:
    """Return ``cfg.teacher_cache`` with its defaults, ``None`` without one.

    Raises:
        ValueError: for an unknown key.
    """
    given = cfg.get('teacher_cache')
    if not given:
        return None
    unknown = sorted(set(given) - set(SETTINGS))
    if unknown:
        raise ValueError(
            f'teacher_cache: unknown key(s) {unknown}; known are '
            f'{list(SETTINGS)}'
        )
    return {**SETTINGS, **given}


def set_teacher_cache(cfg: Config) -> None:
    """Do what ``teacher_cache=dict(path=..., draws=..., seed=...)`` says.

    The training images become :class:`SeededViews`, and the teacher is
    looked up in the folder ``path``; with ``path=None`` it runs, on the same
    views.

    Args:
        cfg (Config): changed in place.

    Raises:
        ValueError: for an unknown key, or a model without a teacher.
    """
    settings = cache_settings(cfg)
    if settings is None:
        return
    teacher = (cfg.get('model') or {}).get('teacher')
    if not teacher:
        raise ValueError(
            'teacher_cache is set, but the config has no model.teacher: '
            'remove it'
        )
    loader = cfg.train_dataloader
    kind = str(loader.dataset.get('type'))
    if kind.rpartition('.')[2] != SeededViews.__name__:
        loader.dataset = ConfigDict(
            type=f'mmpretrain.{SeededViews.__name__}',
            draws=settings['draws'],
            seed=settings['seed'],
            dataset=loader.dataset,
        )
    if settings['path'] is not None:
        teacher.cache = settings['path']


class _Rows(Dataset):
    """The draws of all images one after another, from a row on."""

    def __init__(self, views: SeededViews, start: int) -> None:
        self.views = views
        self.start = start

    def __len__(self) -> int:
        return len(self.views) * self.views.draws - self.start

    def __getitem__(self, index: int) -> dict:
        row = self.start + index
        return self.views.view(row // self.views.draws, row % self.views.draws)


def _asked(
    model: Distiller, plain: bool
) -> tuple[frozenset[str], str | tuple[int, ...]]:
    """Fields and views of the teacher that the heads read."""
    if getattr(model, 'teacher', None) is None or not model.needs.teacher:
        raise SetupError(
            'the model has no teacher that a head reads: there is nothing '
            'to keep in a cache'
        )
    if not model.teacher.frozen or model.teacher.imitate_train_mode:
        raise SetupError(
            'the teacher changes in training (frozen=False, or '
            'imitate_train_mode=True): what it says cannot be kept'
        )
    if plain:
        return frozenset({'features'}), (0,)
    lacking = sorted(model.needs.teacher - set(FIELDS))
    if lacking:
        raise SetupError(
            f'heads ask for {lacking} of the teacher; a cache holds '
            f'{list(FIELDS)} alone'
        )
    return model.needs.teacher, model.needs.teacher_views


class _Encoder:
    """The frozen teacher on batches of a loader."""

    def __init__(self, model: Distiller, plain: bool, amp: bool) -> None:
        self.model = model
        self.plain = plain
        self.fields, self.asked = _asked(model, plain)
        self.device = next(model.teacher.parameters()).device
        self.context = (
            torch.autocast(self.device.type, dtype=torch.bfloat16)
            if amp
            else nullcontext()
        )

    def views(self, batch: dict) -> tuple[list[Tensor], list[int]]:
        """Return the views of a batch, and which of them are asked for."""
        data = self.model.data_preprocessor(batch, not self.plain)
        inputs = data['inputs']
        views = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        number = 1 if self.plain else self.model._count_global(views)
        return views, view_indices(self.asked, len(views), number)

    @torch.no_grad()
    def __call__(self, batch: dict) -> tuple[Encodings, list[int]]:
        views, indices = self.views(batch)
        teacher = self.model.teacher
        views = teacher.adapt([views[index] for index in indices])
        if self.model.channels_last:
            views = [
                v.contiguous(memory_format=torch.channels_last) for v in views
            ]
        with self.context:
            found = encode(teacher.backbone, teacher.neck, views, self.fields)
        return found, indices


def build_teacher_cache(
    model: Distiller,
    dataset: SeededViews,
    folder: str | Path,
    batch_size: int = 256,
    num_workers: int = 0,
    dtype: str = 'float32',
    amp: bool = False,
    plain: bool = False,
) -> TeacherCache:
    """Run a frozen teacher over all draws of all images, or what is left.

    Interrupted, it goes on where it was when called again.

    Args:
        model: whose heads say what is needed; its teacher is loaded.
        dataset: images and draws.
        folder: of the cache.
        batch_size: rows at a time. Defaults to 256.
        num_workers: processes that read images. Defaults to 0.
        dtype: as stored, ``'float32'`` or ``'float16'``.
        amp: run the teacher in bfloat16.
        plain: images as an evaluation pipeline gives them instead of views,
            and pooled features alone.

    Returns:
        The cache, complete.

    Raises:
        SetupError: if there is nothing to keep, the folder holds a cache of
            something else or made otherwise (fields, views, type,
            precision), or the disk is too small.
    """
    encoder = _Encoder(model, plain, amp)
    recipe = recipe_of(dataset, model.data_preprocessor, plain)
    precision = 'bfloat16' if amp else 'float32'
    hashes = dict(
        teacher=model.teacher.identity(),
        recipe=hash_of(recipe),
        data=dataset.data_hash(),
    )
    cache = None
    if (Path(folder).expanduser() / 'manifest.json').exists():
        cache = TeacherCache(folder, writable=True)
        cache.compare(**hashes)
        _, indices = encoder.views(default_collate([_Rows(dataset, 0)[0]]))
        cache.compare_making(encoder.fields, indices, dtype, precision)
    logger = MMLogger.get_current_instance()
    total = len(dataset) * dataset.draws
    first = cache.done if cache else 0
    if first:
        logger.info(f'{first} of {total} rows are there already')
    if first == total:
        return cache
    loader = DataLoader(
        _Rows(dataset, first),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=default_collate,
    )
    model.teacher.eval()
    started = told = time.monotonic()
    row = first
    try:
        for batch in loader:
            encodings, indices = encoder(batch)
            if cache is None:
                cache = TeacherCache.create(
                    folder,
                    hashes,
                    recipe,
                    len(dataset),
                    indices,
                    {
                        field: getattr(encodings, field)[0].size(1)
                        for field in sorted(encoder.fields)
                    },
                    dtype,
                    dict(
                        teacher=str(model.teacher.checkpoint),
                        sha256=model.teacher.sha256,
                        precision=precision,
                        torch=torch.__version__,
                    ),
                )
            cache.write(row, encodings)
            row = cache.done
            now = time.monotonic()
            if now - told >= INTERVAL or row == total:
                cache.flush()
                rate = (row - first) / max(now - started, 1e-9)
                logger.info(
                    f'{row} of {total} rows, {rate:.0f} a second, '
                    f'{(total - row) / rate:.0f} s left'
                )
                told = now
    finally:
        if cache is not None:
            cache.flush()
    return cache


def _loaded_model(cfg: Config, device: torch.device | str) -> nn.Module:
    model_config = ConfigDict(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model_config.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model_config)
    if getattr(model, 'teacher', None) is not None:
        model.teacher.init_weights()
    return model.to(device)


def cache_by_config(
    cfg: Config,
    folder: str | Path | None = None,
    images: str = 'train',
    device: torch.device | str = 'cpu',
    **kwargs,
) -> TeacherCache:
    """Make the teacher cache of a config, or complete it.

    Args:
        cfg: with ``teacher_cache``, see :func:`set_teacher_cache`.
        folder: of the cache, by default ``teacher_cache.path``.
        images: ``'train'``, the views of the training; or ``'bank'``, the
            images of a labelled set as its evaluation pipeline gives them,
            for pseudo-labels.
        device: where the teacher runs.
        **kwargs: of :func:`build_teacher_cache`.

    Raises:
        ValueError: if no folder is given, or see there.
    """
    settings = cache_settings(cfg) or dict(SETTINGS)
    folder = folder or settings['path']
    if folder is None:
        raise ValueError(
            'where is the cache to be? Give --out-dir, or '
            'teacher_cache=dict(path=...) in the config'
        )
    scope = cfg.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        model = _loaded_model(cfg, device)
        dataset = _views(cfg, images, settings)
        return build_teacher_cache(
            model,
            dataset,
            folder,
            dtype=settings['dtype'],
            plain=images == 'bank',
            **kwargs,
        )


def _views(cfg: Config, images: str, settings: dict) -> SeededViews:
    if images == 'bank':
        return SeededViews(labelled_sets(cfg)['bank'], draws=1)
    config = cfg.train_dataloader.dataset
    if str(config.get('type')).rpartition('.')[2] == SeededViews.__name__:
        return DATASETS.build(config)
    return SeededViews(config, settings['draws'], settings['seed'])


def cached_bank(cfg: Config, folder: str | Path) -> Tensor:
    """Return the features of the bank images that a cache holds.

    Args:
        cfg: with the teacher and the bank that the cache was made of.
        folder: of a cache of ``images='bank'``.

    Returns:
        ``(N, C)`` float32.

    Raises:
        SetupError: if the cache is of something else, or not complete.
    """
    cache = TeacherCache(folder)
    scope = cfg.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        model = _loaded_model(cfg, 'cpu')
        dataset = _views(cfg, 'bank', SETTINGS)
        cache.compare_recipe(dataset, model.data_preprocessor, plain=True)
        cache.compare(teacher=model.teacher.identity())
    cache.check_fields(['features'], [0])
    return torch.cat(list(_blocks(cache)))


def _blocks(cache: TeacherCache, rows: int = 65536) -> Iterator[Tensor]:
    features = cache.arrays['features']
    for start in range(0, len(features), rows):
        block = features[start : start + rows, 0]
        yield torch.from_numpy(block.astype('float32'))
