"""Proof that a training starts from the weights that its config names.

mmengine loads ``init_cfg=dict(type='Pretrained', ...)`` without complaint
when not one key of the file matches. Here the file, the networks of the
config and the pretrained network are compared before anything starts.
"""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmssd.engine.hooks.transfer_hook import NOT_COMPARED, TransferHook
from mmssd.models.utils.checkpoint import (
    CheckpointError,
    extract_state_dict,
    find_prefix,
    load_strictly,
)
from mmssd.models.utils.plan import SetupError

from .export import TOLERANCE, read_config

# Arguments by which a task changes how far apart the pixels are that a
# network looks at, but not its weights: set aside where features are compared.
GEOMETRY = ('strides', 'dilations', 'contract_dilation')
STRIDES = (1, 2, 2, 2)  # of the stages of a ResNet that nobody changed
# Arguments that say what is done with a network, not which one it is.
USAGE = ('init_cfg', 'pretrained', 'frozen_stages', 'norm_eval', 'with_cp')
OWN_WEIGHTS = ('teacher', 'momentum')  # they load, and check, their own
REMEDY = (
    'Give the file of the pretrained network by --cfg-options '
    'model.backbone.init_cfg.checkpoint=FILE, or ask for random weights by '
    'model.backbone.init_cfg=None'
)
PIXELS = 64  # side of the images on which features are compared


def set_transfer(cfg: Config) -> None:
    """Prove the initialisation of a config, and let its run state it.

    Args:
        cfg (Config): gets a ``TransferHook``, unless it has one.

    Raises:
        SetupError: see :func:`prove_initialisation`.
    """
    statement = prove_initialisation(cfg)
    hooks = cfg.get('custom_hooks') or []
    for hook in hooks:
        kind = hook.get('type') if isinstance(hook, dict) else type(hook)
        name = kind if isinstance(kind, str) else kind.__name__
        if name.rpartition('.')[2] == TransferHook.__name__:
            if isinstance(hook, dict):
                hook['statement'] = statement
            return
    cfg.custom_hooks = [
        *hooks,
        ConfigDict(
            type=f'mmpretrain.{TransferHook.__name__}', statement=statement
        ),
    ]


def prove_initialisation(cfg: Config) -> str:
    """Say what the backbone of a config starts from, once that is proven.

    For ``init_cfg=dict(type='Pretrained', ...)``: every tensor of the
    backbone is in the file with its shape; every tensor of the file under
    the prefix goes into the backbone or into another part that is
    initialised by the same file (the last stage of a C4 detector); and the
    backbone gives the features of the pretrained network for the same
    images, up to 1e-4 of the largest one (or of 1). What the pretrained
    network was is told by the file itself, as the checkpoints of every
    runner do, else by ``pretrained_config=FILE`` in the config; without
    both, mmdet's and mmseg's networks are compared with mmpretrain's of the
    same name, and for mmpretrain's own the statement says ``features not
    compared``. Strides and dilations that the task changes are set aside.

    Random weights have to be asked for by name, where a network is
    transferred (configs of mmdet and mmseg, frozen backbones, configs with
    a ``TransferHook``): ``init_cfg=None``, or an initialiser.

    Args:
        cfg (Config): with ``model``, of a scope whose modules are
            registered.

    Returns:
        str: one sentence for the log.

    Raises:
        SetupError: listing the keys that are missing, left over or of
            another shape, or saying by how much the features differ; or if
            the config does not say what the backbone starts from.
    """
    model = cfg.get('model') or {}
    scope = cfg.get('default_scope') or 'mmpretrain'
    backbone = model.get('backbone')
    if not isinstance(backbone, dict):
        return f'{model.get("type", "the model")} has no backbone to check'
    receivers = dict(_receivers(model, scope))
    statements = [
        _prove_file(source, prefix, places, cfg, scope)
        for (source, prefix), places in _by_file(receivers).items()
        # in a pretraining other files are those of frozen targets
        if 'backbone' in places or scope != 'mmpretrain'
    ]
    if 'backbone' in receivers:
        return '; '.join(statements)
    return '; '.join([_state_rest(cfg, model, backbone, scope), *statements])


def _state_rest(cfg: Config, model: dict, backbone: dict, scope: str) -> str:
    """Say what a backbone without a file of its own starts from."""
    if backbone.get('pretrained') or backbone.get('checkpoint_path'):
        return f'backbone from the weights that {backbone["type"]} brings'
    if 'init_cfg' in backbone:
        value = backbone['init_cfg']
        return (
            'backbone from random weights, as asked for by '
            f'model.backbone.init_cfg={None if value is None else value!r}'
        )
    if cfg.get('load_from'):
        if not cfg.get('resume'):
            _prove_file(
                cfg.load_from, 'backbone.', {'backbone': None}, cfg, scope
            )
        return f'all from load_from={cfg.load_from}'
    if 'pretrained' in model:
        return 'backbone from random weights, as pretrained=None asks'
    frozen = (
        str(model.get('type')).endswith('FrozenClassifier')
        or model.get('freeze_backbone')
        or (backbone.get('frozen_stages') or 0) > 0
    )
    if scope == 'mmpretrain' and not (frozen or _has_own_hook(cfg)):
        return 'backbone from random weights: the config names none'
    raise SetupError(
        'model.backbone has no init_cfg, so it would start from random '
        f'weights without saying so. {REMEDY}'
    )


def _has_own_hook(cfg: Config) -> bool:
    """Whether a config itself says that it is about a transfer."""
    return any(
        str(hook.get('type')).endswith(TransferHook.__name__)
        # the one of set_transfer says what it has found
        and not hook.get('statement')
        for hook in cfg.get('custom_hooks') or []
        if isinstance(hook, dict)
    )


# --- what the config says ---------------------------------------------------


def named_file(init_cfg: Any) -> tuple[str, str] | None:
    """Return file and prefix of an ``init_cfg``, if it names a file."""
    for item in (
        init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    ):
        if not isinstance(item, dict):
            continue
        kind = item.get('type')
        name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
        if name in ('Pretrained', 'PretrainedInit'):
            if not item.get('checkpoint'):
                raise SetupError(
                    f'init_cfg={dict(item)} names no checkpoint. {REMEDY}'
                )
            prefix = item.get('prefix') or ''
            if prefix and not prefix.endswith('.'):
                prefix += '.'
            return item['checkpoint'], prefix
    return None


def _receivers(
    model: dict, scope: str
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the parts of a model that load a file: place, (file, prefix)."""
    whole = model.get('pretrained')
    if isinstance(whole, str) and scope != 'mmpretrain':
        yield 'backbone', (whole, '')
    else:
        found = named_file(model.get('init_cfg'))
        if isinstance(whole, str):
            found = whole, ''
        if found:
            yield 'backbone', (found[0], f'{found[1]}backbone.')
    yield from _nested(model, '')


def _nested(node: Any, place: str) -> Iterator[tuple[str, tuple[str, str]]]:
    if isinstance(node, dict):
        found = named_file(node.get('init_cfg')) if place else None
        if found:
            yield place, found
        elif place and isinstance(node.get('pretrained'), str):
            yield place, (node['pretrained'], '')
        for key, value in node.items():
            if key in (*OWN_WEIGHTS, 'init_cfg', 'train_cfg', 'test_cfg'):
                continue
            yield from _nested(value, f'{place}.{key}' if place else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _nested(value, f'{place}.{index}')


def pretrained_backbone(cfg: Config) -> tuple[str, str] | None:
    """Return the file and the prefix that a config's backbone starts from.

    Args:
        cfg (Config): with ``model``.

    Returns:
        tuple[str, str] | None: ``None`` if it names no file.
    """
    model = cfg.get('model') or {}
    if not isinstance(model.get('backbone'), dict):
        return None
    scope = cfg.get('default_scope') or 'mmpretrain'
    return dict(_receivers(model, scope)).get('backbone')


def _by_file(
    receivers: dict[str, tuple[str, str]],
) -> dict[tuple[str, str], dict[str, None]]:
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for place, found in receivers.items():
        groups.setdefault(found, {})[place] = None
    return groups


def _node(model: dict, place: str) -> dict:
    for key in place.split('.'):
        model = (
            model[int(key)]
            if isinstance(model, (list, tuple))
            else (model[key])
        )
    return dict(model)


def _build(config: dict, scope: str) -> nn.Module:
    config = {k: v for k, v in config.items() if k not in USAGE}
    with DefaultScope.overwrite_default_scope(scope):
        module = MODELS.build(config)
    module.eval()  # returns nothing in some of them
    return module


# --- comparison -------------------------------------------------------------


def read_file(source: str) -> tuple[dict, dict[str, Tensor]]:
    """Open a file as ``init_cfg`` would.

    Args:
        source: path, URL or model-zoo name.

    Returns:
        The content, and the weights in it.

    Raises:
        SetupError: if there is no such file, or it holds no weights.
    """
    try:
        content = CheckpointLoader.load_checkpoint(source, 'cpu')
        return content, extract_state_dict(content, source)
    except (FileNotFoundError, CheckpointError) as error:
        raise SetupError(f'{error}. {REMEDY}') from error


def under_prefix(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights under a prefix, without it."""
    return {
        key.removeprefix(prefix): value
        for key, value in weights.items()
        if key.startswith(prefix)
    }


def _prove_file(
    source: str,
    prefix: str,
    places: dict[str, None],
    cfg: Config,
    scope: str,
) -> str:
    """Compare a file with the parts of the model that it initialises."""
    model = cfg.model
    content, everything = read_file(source)
    weights = under_prefix(everything, prefix)
    parts = {place: _build(_node(model, place), scope) for place in places}
    backbone = parts.pop('backbone', None)
    taken: set[str] = set()
    new: list[str] = []
    try:
        for place, part in parts.items():
            new += _load_part(part, place, weights, source)
            taken |= set(part.state_dict()) & set(weights)
        unused: list[str] = []
        if backbone is not None:
            unused = _load_backbone(
                backbone, weights, taken, everything, source, prefix
            )
    except CheckpointError as error:
        raise SetupError(
            f'the weights do not reach the network, nothing was trained: '
            f'{error}\n{REMEDY}'
        ) from None
    text = f'{" and ".join(places)} from {source}'
    if prefix:
        text += f' (prefix {prefix!r})'
    if backbone is not None:
        used = len((set(backbone.state_dict()) | taken) & set(weights))
        text += f', {used} of its {len(weights)} tensors used, '
        text += _compare_features(
            backbone, weights, content, cfg, scope, prefix
        )
        if unused:
            text += f', not used: {", ".join(unused[:5])}' + (
                f' and {len(unused) - 5} more' if len(unused) > 5 else ''
            )
    if new:
        text += f', new: {", ".join(new)}'
    return text


def _load_part(
    part: nn.Module, place: str, weights: dict[str, Tensor], source: str
) -> list[str]:
    """Load a part besides the backbone; return its layers without weights.

    A part may have layers of its own, such as the batch norm that follows
    the last stage, but what the file has a layer for must be complete.
    """
    own = part.state_dict()
    known = {key.partition('.')[0] for key in weights}
    new = sorted({key.partition('.')[0] for key in own} - known)
    given = {key: value for key, value in weights.items() if key in own}
    load_strictly(
        part,
        given or weights,
        source,
        ignore=[f'{name}.*' for name in new] if given else (),
        name=f'model.{place}',
    )
    return [f'{place}.{name}' for name in new]


def _load_backbone(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    taken: set[str],
    everything: dict[str, Tensor],
    source: str,
    prefix: str,
) -> list[str]:
    """Load the backbone one to one; return keys that nobody could ask for.

    Without a prefix the file may hold more than a backbone, and nobody can
    tell what: then keys may be left over.
    """
    own = backbone.state_dict()
    name = 'model.backbone'
    if not weights:
        better = find_prefix(own, everything)
        hint = '' if better is None else f'; with prefix={better!r} they would'
        raise CheckpointError(
            f'{source} has no key that begins with {prefix!r}, which {name} '
            f'needs{hint}. The file has {", ".join(list(everything)[:5])}, ...'
        )
    rest = [key for key in weights if key not in own and key not in taken]
    given = {key: value for key, value in weights.items() if key in own}
    if given and not prefix:
        load_strictly(backbone, given, source, name=name)
        return rest
    given.update((key, weights[key]) for key in rest)
    load_strictly(backbone, given, source, name=name)
    return []


def _outputs(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for item in output for tensor in _outputs(item)]


def _source_network(
    content: dict, prefix: str, config: str | None
) -> tuple[dict, str] | None:
    """Return config and scope of the network that a file is of.

    Args:
        content: of the file.
        prefix: of the keys.
        config: file of the config, if the checkpoint has none.
    """
    text = (content.get('meta') or {}).get('cfg')
    if isinstance(text, str):
        try:
            cfg = read_config(text)
        except (ValueError, SyntaxError):
            return None
    elif config:
        from .config import load_config

        cfg = load_config(config)
    else:
        return None
    network = cfg.get('model') or {}
    if prefix.startswith('teacher.'):
        network = network.get('teacher') or {}
    found = network.get('backbone')
    if not isinstance(found, dict):
        return None
    return found, cfg.get('default_scope') or 'mmpretrain'


def _same_geometry(source: dict, config: dict) -> tuple[dict, dict, list[str]]:
    """Undo the strides and dilations of a task, if it has its own."""
    stages = config.get('num_stages', len(STRIDES))
    plain = dict(
        strides=STRIDES[:stages],
        dilations=(1,) * stages,
        contract_dilation=False,
    )
    aside = [
        name
        for name, value in plain.items()
        if name in config
        and name not in source
        and _as_tuple(config[name]) != value
    ]
    if 'num_stages' in config:
        # they have to be as many as there are stages
        undone = {name: plain[name] for name in aside}
        return source, {**config, **undone}, aside
    return source, {k: v for k, v in config.items() if k not in aside}, aside


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _counterpart(config: dict) -> tuple[dict, str] | None:
    """Return mmpretrain's network of the same name and arguments."""
    from mmpretrain.registry import MODELS as MMPRETRAIN

    name = config.get('type')
    if not isinstance(name, str) or name not in MMPRETRAIN.module_dict:
        return None
    away = ('num_stages', *GEOMETRY)
    return {k: v for k, v in config.items() if k not in away}, 'mmpretrain'


@torch.no_grad()
def _compare_features(
    backbone: nn.Module,
    weights: dict[str, Tensor],
    content: dict,
    cfg: Config,
    scope: str,
    prefix: str,
) -> str:
    """Compare with the pretrained network on the same images."""
    config, stated = dict(cfg.model.backbone), cfg.get('pretrained_config')
    found = _source_network(content, prefix, stated)
    origin = 'the pretrained network'
    if found is None:
        found = None if scope == 'mmpretrain' else _counterpart(config)
        origin = 'the network of mmpretrain'
    if found is None:
        return (
            f'{NOT_COMPARED} (the file does not say which network it is of, '
            'so another activation or stride would not be found: name its '
            'config by --cfg-options pretrained_config=CONFIG)'
        )
    source, source_scope = found
    source, config, aside = _same_geometry(dict(source), config)
    # the same outputs of both
    for name in ('out_indices', 'out_type'):
        value = config.get(name, getattr(backbone, name, None))
        if value is not None:
            source[name] = value
    try:
        reference = _build(source, source_scope)
        load_strictly(reference, weights, 'the file')
    except Exception as error:  # whatever a constructor makes of it
        first = str(error).splitlines()[0]
        if stated:
            raise SetupError(
                f'the network of pretrained_config={stated} is not that of '
                f'the file: {first}'
            ) from error
        return (
            f'{NOT_COMPARED} ({origin} cannot be built: {first}; if another '
            'config is that of the file, name it by --cfg-options '
            'pretrained_config=CONFIG)'
        )
    if aside:
        target = _build(config, scope)
        target.load_state_dict(weights, strict=False)
    else:
        target = backbone
    size = getattr(backbone, 'img_size', PIXELS)
    size = size if isinstance(size, int) else size[0]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, size, size, generator=generator)
    worst = 0.0
    wanted, got = _outputs(reference(images)), _outputs(target(images))
    shapes = [[tuple(x.shape) for x in maps] for maps in (wanted, got)]
    if shapes[0] != shapes[1]:
        raise SetupError(
            f'model.backbone gives maps {shapes[1]} where {origin} gives '
            f'{shapes[0]}: the weights fit, but it is another network'
        )
    for a, b in zip(wanted, got, strict=True):
        difference = (a - b).abs().max().item()
        if not difference <= TOLERANCE * max(1.0, a.abs().max().item()):
            raise SetupError(
                f'the features of model.backbone differ from those of '
                f'{origin} by {difference:g} on the same images, although '
                'all weights fit: an argument of the backbone (style, '
                f'activation, ...) is not what it was, {dict(source)}'
            )
        worst = max(worst, difference)
    text = f'features equal to those of {origin} (difference {worst:.1g})'
    if aside:
        text += f', {", ".join(aside)} set aside'
    return text
