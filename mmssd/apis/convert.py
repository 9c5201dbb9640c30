"""From published checkpoints to files of this package."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor

from mmssd.models.distillers.encodings import encode
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.utils.checkpoint import file_sha256
from mmssd.models.utils.layouts import AUTO, groups
from mmssd.version import __version__

from .config import load_config, register_modules
from .export import check_target, replacing

NETWORKS = ('teacher', 'student')
CHECK_SIDE = 64  # pixels of the images that two networks are compared on


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes:
        path: the file.
        layout: as which the source was read.
        keys: number of its tensors; every one was used on reloading.
        unused: what of the source is not in it, counted by first words.
        difference: largest absolute difference between the outputs of the
            network that read the source and of the one that read the file.
    """

    path: Path
    layout: str
    keys: int
    unused: str
    difference: float


def teacher_config(config: Mapping, origin: str = 'the config') -> dict:
    """Return the teacher that a config describes.

    Args:
        config: with ``model.teacher``; or a fragment, in which one setting
            is a dict with ``type='Teacher'``.
        origin: its name in errors.

    Raises:
        ValueError: if there is none, or there are several.
    """
    found = (config.get('model') or {}).get('teacher')
    if found:
        return dict(found)
    named = {
        name: value
        for name, value in config.items()
        if isinstance(value, Mapping) and value.get('type') == 'Teacher'
    }
    if len(named) != 1:
        raise ValueError(
            f'{origin} has no model.teacher, and '
            + (
                f'several teachers {sorted(named)}'
                if named
                else "no setting dict(type='Teacher', ...)"
            )
            + ': give a config with one, such as a fragment of '
            'configs/_base_/teachers'
        )
    return dict(next(iter(named.values())))


def _network_config(config: Config, network: str, origin: str) -> dict:
    if network not in NETWORKS:
        raise ValueError(f'network={network!r}: known are {list(NETWORKS)}')
    if network == 'teacher':
        return teacher_config(config, origin)
    model = config.get('model') or {}
    if not model.get('backbone'):
        raise ValueError(f'{origin} has no model.backbone')
    kept = {k: model[k] for k in ('backbone', 'neck') if model.get(k)}
    return dict(type='Teacher', **kept)


def _build(settings: dict, scope: str, **kwargs) -> Teacher:
    wanted = {**settings, **kwargs, 'frozen': True}
    wanted.pop('init_cfg', None)
    with DefaultScope.overwrite_default_scope(scope):
        teacher = MODELS.build(wanted)
    teacher.init_weights()
    return teacher


@torch.no_grad()
def _outputs(teacher: Teacher) -> list[Tensor]:
    """Features and embeddings of two random images."""
    size = getattr(teacher.backbone, 'img_size', None)
    size = size or teacher.input_size or CHECK_SIDE
    size = (size, size) if isinstance(size, int) else tuple(size)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, *size, generator=generator)
    fields = frozenset(['features', 'embeddings'])
    found = encode(teacher.backbone, teacher.neck, [images], fields)
    return [found.features[0], found.embeddings[0]]


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    config: str | Path,
    layout: str = AUTO,
    prefix: str = '',
    network: str = 'teacher',
    with_neck: bool = True,
    force: bool = False,
) -> Conversion:
    """Write a published checkpoint as a file of this package.

    Before the file takes its place it is read again by a newly built
    teacher of layout ``'mmssd'``: every key must be used, and features and
    embeddings must equal those of the network that read the source. The
    file carries backbone, neck and, where the config says, input statistics
    as its config, so that other tools know what it is. Tensors that
    ``extra_keys`` of the teacher name are kept under these names.

    Args:
        source: the published file.
        target: file to write, replaced in one step.
        config: a config with the network, see :func:`teacher_config`.
        layout: of the source. Defaults to ``'auto'``.
        prefix: the network inside the source, see :class:`Teacher`.
        network: ``'teacher'``, or ``'student'`` for the student of a run of
            SEED, DisCo or CompRess: whose backbone and neck of the config
            the weights are for.
        with_neck: convert the projector, too, if the config has one.
        force: replace ``target``.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: if source, config or the target's folder is
            missing.
        FileExistsError: if the target exists and ``force`` is not set.
        ValueError: if the config has no such network, or the source does
            not fit it.
    """
    source, target = Path(source).expanduser(), Path(target).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f'checkpoint {source} not found')
    check_target(source, target, force)
    loaded = load_config(config)
    scope = loaded.get('default_scope') or 'mmpretrain'
    register_modules(scope)
    settings = _network_config(loaded, network, f'config {config}')
    if not with_neck:
        settings.pop('neck', None)
    teacher = _build(
        settings, scope, checkpoint=str(source), layout=layout, prefix=prefix
    )
    state = {
        f'{part}.{key}': value
        for part in ('backbone', 'neck')
        if getattr(teacher, part) is not None
        for key, value in getattr(teacher, part).state_dict().items()
    }
    for name, key in teacher.extra_keys.items():
        state[key] = teacher.extra(name)
    state = {key: value.contiguous().clone() for key, value in state.items()}
    content = dict(
        meta=dict(
            mmssd_version=__version__,
            source=source.name,
            source_sha256=file_sha256(source),
            source_layout=teacher.loaded.layout,
            cfg=_config_text(settings, teacher, scope),
        ),
        state_dict=state,
    )
    with replacing(target, content) as written:
        again = _build(
            settings, scope, checkpoint=str(written), layout='mmssd', prefix=''
        )
        difference = 0.0
        for a, b in zip(_outputs(teacher), _outputs(again), strict=True):
            difference = max(difference, (a - b).abs().max().item())
        if not difference == 0.0:
            raise ValueError(
                f'outputs of the written file differ by {difference:g} from '
                f'those of {source}: nothing was written; please report this '
                'with the config'
            )
    kept = set(teacher.extra_keys.values())
    unused = [key for key in teacher.loaded.unused if key not in kept]
    return Conversion(
        target,
        teacher.loaded.layout,
        len(state),
        groups(unused),
        difference,
    )


def _config_text(settings: dict, teacher: Teacher, scope: str) -> str:
    """Say what the file holds in words that the other tools read."""
    model = dict(
        type='Distiller',
        **{k: settings[k] for k in ('backbone', 'neck') if settings.get(k)},
    )
    # what the config says, or what is known of the layout
    seen = teacher.input or teacher.loaded.input
    if seen is not None:
        model['data_preprocessor'] = dict(
            type='SelfSupDataPreprocessor',
            mean=list(seen.mean),
            std=list(seen.std),
            bgr_to_rgb=seen.channel_order == 'RGB',
            rgb_to_bgr=seen.channel_order == 'BGR',
        )
    return Config(dict(default_scope=scope, model=model)).pretty_text
