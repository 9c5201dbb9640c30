"""Taking a backbone out of a run, for this and for other libraries."""

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmssd.models.utils.checkpoint import (
    CheckpointError,
    extract_state_dict,
    load_checkpoint,
    load_strictly,
    read_config,
)
from mmssd.models.utils.layouts import TIMM, WORDS, norm_eps
from mmssd.models.utils.step import last_output
from mmssd.version import __version__

PARTS = {
    'student': 'backbone.',
    'teacher': 'teacher.backbone.',
    'momentum': 'momentum.backbone.',
}
LAYOUTS = {
    'mm': 'every backbone',
    'torchvision': 'ResNet, ResNet_CIFAR, MobileNetV2, and EfficientNet with '
    'conv_cfg=None',
    'timm': 'ResNet, ResNet_CIFAR, MobileNetV2, EfficientNet, TIMMBackbone',
}
# named otherwise here than there
RENAMED = ('MobileNetV2', 'EfficientNet')
# Kernels of other libraries may sum in another order; a wrong key, stride
# or activation is off by the size of the features themselves.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Export:
    """What was written, and what it was compared with.

    Attributes:
        path: the file.
        keys: number of its tensors; every one was used on reloading.
        differences: largest absolute difference of the features from those
            of the source, by the network that loaded the file.
        note: why it was not compared with the other library, if so.
    """

    path: Path
    keys: int
    differences: dict[str, float]
    note: str = ''


# --- files ------------------------------------------------------------------


def check_target(source: Path, target: Path, force: bool = False) -> None:
    """Refuse a file that should not or cannot be written.

    Raises:
        FileNotFoundError: if its folder is missing.
        FileExistsError: if it exists and ``force`` is not set.
        ValueError: if it is the source.
    """
    if target.exists() and not force:
        raise FileExistsError(f'{target} exists: --force replaces it')
    if not target.parent.is_dir():
        raise FileNotFoundError(f'folder {target.parent} does not exist')
    if target.exists() and target.samefile(source):
        raise ValueError(f'{target} is the source itself: choose another')


@contextmanager
def replacing(target: Path, content: dict) -> Iterator[Path]:
    """Write a file beside its place; it takes it if the body succeeds.

    Args:
        target: the place.
        content: what to save.

    Yields:
        The file, to be checked.
    """
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f'.{target.name}.', suffix='.tmp'
    )
    try:
        with os.fdopen(handle, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    finally:
        if os.path.exists(name):
            os.remove(name)


# --- the config that a checkpoint carries -----------------------------------


def _backbone_config(
    checkpoint: dict, config: str | Path | None, part: str, source: Path
) -> tuple[dict, str]:
    """Return the config of a backbone, and its scope."""
    if config is not None:
        from .config import load_config

        cfg, origin = load_config(config), f'config {config}'
    else:
        text = (checkpoint.get('meta') or {}).get('cfg')
        origin = f'the config inside {source}'
        if not isinstance(text, str):
            raise ValueError(
                f'{source} does not carry the config of its run: give it '
                'by --config'
            )
        try:
            cfg = read_config(text)
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f'{origin} is not made of constants alone ({error}): give '
                'it by --config'
            ) from None
    found = cfg.get('model') or {}
    if part == 'teacher':
        found = found.get('teacher') or {}
    found = found.get('backbone')
    if not isinstance(found, dict):
        raise ValueError(
            f'{origin} has no model.'
            f'{"teacher." if part == "teacher" else ""}backbone: give that '
            'of the run by --config'
        )
    found = dict(found)
    found.pop('init_cfg', None)  # its weights come from the source
    return found, cfg.get('default_scope') or 'mmpretrain'


def _build(config: dict, scope: str) -> nn.Module:
    from .config import register_modules

    register_modules(scope)
    with DefaultScope.overwrite_default_scope(scope):
        backbone = MODELS.build(dict(config))
    backbone.eval()  # returns nothing in some of them
    return backbone


# --- layouts ----------------------------------------------------------------


def select_part(
    state_dict: dict, part: str, source: str | Path
) -> OrderedDict:
    """Return the weights of one part, by the backbone's own keys.

    Args:
        state_dict: of a run, or an exported backbone.
        part: ``'student'``, ``'teacher'`` or ``'momentum'``.
        source: its name in errors.

    Raises:
        CheckpointError: if it holds no such part, naming those it has.
    """
    prefix = PARTS[part]
    weights = OrderedDict(
        (key[len(prefix) :], value.contiguous().clone())
        for key, value in state_dict.items()
        if key.startswith(prefix)
    )
    if weights:
        return weights
    if part == 'teacher' and 'teacher.checkpoint_path' in state_dict:
        name = bytes(state_dict['teacher.checkpoint_path'].tolist())
        raise CheckpointError(
            f'{source} names the file of its frozen teacher instead of '
            'holding the weights: extract the student of '
            + name.rstrip(b'\0').decode()
        )
    there = [
        name
        for name, start in PARTS.items()
        if any(key.startswith(start) for key in state_dict)
    ]
    raise CheckpointError(
        f'{source} has no keys {prefix}*: '
        + (
            f'its parts are {", ".join(there)}, choose by --part'
            if there
            else 'it is not of this package or mmpretrain; its keys begin '
            f'with {sorted({key.split(".")[0] for key in state_dict})[:10]}'
        )
    )


def _kind(backbone: nn.Module) -> str:
    return type(backbone).__name__


def _refuse(backbone: nn.Module, layout: str, why: str = '') -> None:
    raise ValueError(
        f'layout {layout!r}: {_kind(backbone)} '
        + (why or 'has no counterpart there that is known here')
        + '. Supported are '
        + '; '.join(f'{name}: {kinds}' for name, kinds in LAYOUTS.items())
    )


def _check_resnet(backbone: nn.Module, layout: str) -> None:
    if backbone.deep_stem or backbone.avg_down:
        _refuse(backbone, layout, 'has a deep stem or average pooling')
    if backbone.style != 'pytorch' and backbone.depth >= 50:
        _refuse(
            backbone,
            layout,
            f'of style={backbone.style!r} has its strides in 1x1 '
            'convolutions: it would load there, with other features',
        )


def _is_standard(backbone: nn.Module) -> bool:
    """Whether a ResNet is the one of the papers, in the other libraries."""
    return (
        _kind(backbone) == 'ResNet'
        and backbone.stem_channels == backbone.base_channels == 64
        and getattr(backbone, 'expansion', None)
        in (None, 1 if backbone.depth < 50 else 4)
        and backbone.num_stages == 4
        and tuple(backbone.strides) == (1, 2, 2, 2)
        and tuple(backbone.dilations) == (1, 1, 1, 1)
    )


def _renamed_network(backbone: nn.Module, layout: str) -> nn.Module:
    """Build the other library's network of a kind with other keys there.

    Raises:
        ImportError: if the library is not installed.
        ValueError: if it has no network that computes the same.
    """
    same = backbone.conv_cfg is not None  # pads as TensorFlow
    options = {}
    if _kind(backbone) == 'EfficientNet':
        arch = next(
            name
            for name, setting in backbone.arch_settings.items()
            if setting == backbone.arch_setting
        )
        name = f'efficientnet_{arch}'
        if same and layout == 'timm':
            name = f'tf_{name}'
        elif same:
            _refuse(
                backbone,
                layout,
                f'pads as TensorFlow does (conv_cfg={backbone.conv_cfg}): it '
                "would load there, with other features; layout='timm' has "
                f'tf_{name}',
            )
    elif layout == 'timm':
        name = f'mobilenetv2_{round(100 * backbone.widen_factor):03d}'
    else:
        name, options = 'mobilenet_v2', {'width_mult': backbone.widen_factor}
    if layout == 'timm':
        try:
            import timm
        except ImportError:
            raise ImportError(
                f"layout='timm': features of {name} are compared with timm's "
                'before a file is written: pip install timm'
            ) from None
        known = timm.is_model(name)
    else:
        from torchvision import models

        known = name in models.list_models()
    if not known:
        _refuse(backbone, layout, f'has no counterpart {name} there')
    if layout == 'timm':
        model = timm.create_model(name, num_classes=0)
    else:
        model = models.get_model(name, **options)
        model.classifier = nn.Identity()
    own, other = norm_eps(backbone), norm_eps(model)
    if own != other:
        _refuse(
            backbone,
            layout,
            f'normalises with eps={own:g}, {name} there with {other:g}: it '
            'would load there, with other features',
        )
    return model


def convert(
    backbone: nn.Module, weights: dict[str, Tensor], layout: str
) -> OrderedDict[str, Tensor]:
    """Rename the weights of a backbone to the keys of a layout.

    Args:
        backbone: the network that they are of.
        weights: by the backbone's own keys.
        layout: one of :data:`LAYOUTS`.

    Raises:
        ValueError: if the layout has no such network, listing what it has.
    """
    if layout == 'mm':
        return OrderedDict((f'backbone.{k}', v) for k, v in weights.items())
    if _kind(backbone) in ('ResNet', 'ResNet_CIFAR'):
        _check_resnet(backbone, layout)
        return OrderedDict(weights)
    if _kind(backbone) in RENAMED:
        try:
            rename = WORDS[_kind(backbone)][layout](backbone)
        except CheckpointError as error:
            why = str(error).partition(': ')[0]  # the rest is for loading
            _refuse(backbone, layout, f'has other blocks: {why}')
        with torch.device('meta'):  # for its settings alone
            _renamed_network(backbone, layout)
        return OrderedDict((rename(k), v) for k, v in weights.items())
    if _kind(backbone) == 'TIMMBackbone':
        if layout != 'timm':
            _refuse(
                backbone,
                layout,
                'is a network of timm, whose layers and widths (those of '
                'regnety_006, say) torchvision does not have: use '
                "layout='timm'",
            )
        return OrderedDict(
            (key.removeprefix(TIMM), value) for key, value in weights.items()
        )
    return _refuse(backbone, layout)


# --- comparison -------------------------------------------------------------


def _counterpart(
    backbone: nn.Module, layout: str
) -> tuple[nn.Module | None, Callable | None, str]:
    """Return the other library's network, its last map, or why not."""
    if layout == 'mm':
        return None, None, ''
    kind = _kind(backbone)
    if kind in RENAMED:
        model = _renamed_network(backbone, layout)
        if layout == 'timm':
            return model, model.forward_features, ''
        return model, model.features, ''
    if not _is_standard(backbone):
        return (
            None,
            None,
            (
                f'{layout} has no {kind} of this stem, width or stride: its '
                'features were compared within this library alone'
            ),
        )
    if layout == 'timm':
        try:
            import timm
        except ImportError:
            return (
                None,
                None,
                ('timm is not installed: features not compared with it'),
            )
        model = timm.create_model(f'resnet{backbone.depth}', num_classes=0)
        return model, model.forward_features, ''
    from torchvision import models

    model = models.get_model(f'resnet{backbone.depth}')
    model.fc = nn.Identity()
    return model, nn.Sequential(*list(model.children())[:-2]), ''


def _outputs(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for item in output for tensor in _outputs(item)]


@torch.no_grad()
def _difference(wanted: Any, got: Any, what: str) -> float:
    """Return the largest difference, or refuse the file."""
    worst = 0.0
    for a, b in zip(_outputs(wanted), _outputs(got), strict=True):
        difference = (a - b).abs().max().item() if a.shape == b.shape else 1e9
        if not difference <= TOLERANCE * max(1.0, a.abs().max().item()):
            raise ValueError(
                f'features of {what} differ from those of the source by '
                f'{difference:g}: nothing was written; please report this '
                'with the config of the backbone'
            )
        worst = max(worst, difference)
    return worst


@torch.no_grad()
def _verify(
    path: Path, layout: str, config: dict, scope: str, backbone: nn.Module
) -> tuple[dict[str, float], str]:
    """Load a written file into new networks and compare their features."""
    written = extract_state_dict(load_checkpoint(path))
    size = getattr(backbone, 'img_size', 64)
    size = size if isinstance(size, int) else size[0]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, size, size, generator=generator)
    wanted = backbone(images)
    differences = {}
    if layout == 'timm' and _kind(backbone) == 'TIMMBackbone':
        model = _build(config, scope).timm_model  # timm's own module
        load_strictly(model, written, str(path))
        name = f'timm {type(model).__name__}'
        differences[name] = _difference(wanted, model(images), name)
        return differences, ''
    if layout == 'mm' or _kind(backbone) not in RENAMED:
        weights = OrderedDict(
            (key.removeprefix('backbone.'), value)
            for key, value in written.items()
        )
        again = _build(config, scope)
        load_strictly(again, weights, str(path))
        differences[_kind(backbone)] = _difference(
            wanted, again(images), 'the reloaded backbone'
        )
    model, features, note = _counterpart(backbone, layout)
    if model is not None:
        load_strictly(model.eval(), written, str(path))
        features_of = f'{layout} {type(model).__name__}'
        differences[features_of] = _difference(
            last_output(wanted), features(images), features_of
        )
    return differences, note


def _whole(config: dict, scope: str) -> dict:
    """Let a backbone that is known give its last stage too."""
    backbone = _build(config, scope)
    if hasattr(backbone, 'num_stages') and hasattr(backbone, 'out_indices'):
        return {**config, 'out_indices': (backbone.num_stages - 1,)}
    if _kind(backbone) in RENAMED:
        # the convolution before the pooling comes after all stages
        return {**config, 'out_indices': (len(backbone.layers) - 1,)}
    return config


def export_backbone(
    source: str | Path,
    target: str | Path,
    part: str = 'student',
    layout: str = 'mm',
    config: str | Path | None = None,
    force: bool = False,
) -> Export:
    """Write one backbone of a checkpoint to a file of its own.

    Before the file takes its place it is read again: every key must be used
    by a newly built network, and the features must be those of the source.

    Args:
        source: checkpoint of a run.
        target: file to write, replaced in one step.
        part: ``'student'``, ``'teacher'`` (an online one) or
            ``'momentum'``.
        layout: ``'mm'`` keeps ``backbone.``, as mmpretrain, mmdet and mmseg
            read by ``init_cfg=dict(type='Pretrained', checkpoint=...,
            prefix='backbone.')``; ``'torchvision'`` and ``'timm'`` are flat
            dicts with their keys, without a classifier.
        config: config of the run, if the checkpoint carries none.
        force: replace ``target``.

    Returns:
        What was written and compared.

    Raises:
        FileNotFoundError: if the source or the target's folder is missing.
        FileExistsError: if the target exists and ``force`` is not set.
        ValueError: if the source has no such part or does not fit its
            config, or the layout has no such backbone, or one that
            computes otherwise.
        ImportError: if only the library of the layout can prove the file,
            and it is not installed.
    """
    source, target = Path(source), Path(target)
    for name, value, known in (
        ('part', part, PARTS),
        ('layout', layout, LAYOUTS),
    ):
        if value not in known:
            raise ValueError(f'{name}={value!r}: known are {list(known)}')
    check_target(source, target, force)

    checkpoint = load_checkpoint(source)
    weights = select_part(
        extract_state_dict(checkpoint, str(source)), part, source
    )
    model_config, scope = _backbone_config(checkpoint, config, part, source)
    if layout != 'mm':
        model_config = _whole(model_config, scope)
    backbone = _build(model_config, scope)
    load_strictly(backbone, weights, f'{source} ({part})')
    content: dict = convert(backbone, weights, layout)
    keys = len(content)
    if layout == 'mm':
        # as a run writes it, so that a transfer can compare features
        cfg = Config(
            dict(default_scope=scope, model=dict(backbone=model_config))
        )
        meta = dict(
            mmssd_version=__version__,
            source=source.name,
            part=part,
            cfg=cfg.pretty_text,
        )
        content = dict(meta=meta, state_dict=content)

    with replacing(target, content) as written:
        differences, note = _verify(
            written, layout, model_config, scope, backbone
        )
    return Export(target, keys, differences, note)
