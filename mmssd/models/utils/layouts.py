"""Checkpoints of others: what their keys are called, and what they are here.

A file is read in three steps. :func:`find_weights` makes one flat dict of
it. Its **layout**, one entry of :data:`LAYOUTS`, says where in that dict the
networks are, which keys of a network are its projector and which belong to
neither backbone nor projector. The remaining keys are those of a backbone
in the **words** of torchvision or timm; :data:`WORDS` translates the
backbones of mmpretrain that have other words of their own.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from mmpretrain.models.backbones import EfficientNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .checkpoint import (
    OPTIONAL,
    CheckpointError,
    _listing,
    extract_state_dict,
    find_prefix,
)
from .input_statistics import IMAGENET, SWAV, InputStatistics

PARTS = ('backbone', 'neck')
AUTO = 'auto'
MODULE = 'module.'  # of data-parallel wrappers, as many as there were
TIMM = 'timm_model.'  # before the keys of mmpretrain's TIMMBackbone

Rename = Callable[[str], str]


# --- backbones: our keys in the words of the other libraries ----------------


def _same(backbone: nn.Module) -> Rename:
    return lambda key: key


def _mobilenet_v2_torchvision(backbone: nn.Module) -> Rename:
    """Return what renames keys of MobileNetV2 to those of torchvision."""
    blocks: dict[str, tuple[int, int]] = {}
    for stage in range(1, 8):
        for index, block in enumerate(getattr(backbone, f'layer{stage}')):
            name = f'layer{stage}.{index}.conv.'
            # all but the last of its layers are grouped by torchvision
            blocks[name] = (len(blocks) + 1, len(block.conv) - 1)
    slots = {'conv': 0, 'bn': 1}

    def rename(key: str) -> str:
        top, slot, name = re.fullmatch(
            r'(conv[12]\.|layer\d\.\d+\.conv\.\d+\.)(conv|bn)\.(.+)', key
        ).groups()
        if top in ('conv1.', 'conv2.'):
            number = 0 if top == 'conv1.' else len(blocks) + 1
            return f'features.{number}.{slots[slot]}.{name}'
        block, _, layer = top[:-1].rpartition('.')
        number, last = blocks[f'{block}.']
        if int(layer) < last:
            return f'features.{number}.conv.{layer}.{slots[slot]}.{name}'
        return f'features.{number}.conv.{last + slots[slot]}.{name}'

    return rename


def _mobilenet_v2_timm(backbone: nn.Module) -> Rename:
    table = {}
    for end, name, norm in (('conv1', 'stem', 1), ('conv2', 'head', 2)):
        table[f'{end}.conv.'] = f'conv_{name}.'
        table[f'{end}.bn.'] = f'bn{norm}.'
    for stage in range(1, 8):
        for index, block in enumerate(getattr(backbone, f'layer{stage}')):
            # without expansion the last convolution is the only 1 x 1
            names = ['conv_pw', 'conv_dw', 'conv_pwl']
            if len(block.conv) == 2:
                names = ['conv_dw', 'conv_pw']
            for number, name in enumerate(names):
                own = f'layer{stage}.{index}.conv.{number}.'
                start = _timm_block(0, stage - 1, index)
                table[f'{own}conv.'] = f'{start}{name}.'
                table[f'{own}bn.'] = f'{start}bn{number + 1}.'

    def rename(key: str) -> str:
        top, _, name = key.rpartition('.')
        return table[f'{top}.'] + name

    return rename


def _inverted_blocks(
    backbone: nn.Module,
) -> tuple[str, str, list[tuple[str, nn.Module]]]:
    """Name first convolution, last convolution and the blocks between."""
    if isinstance(backbone, EfficientNet):
        names = [
            f'layers.{stage}.{index}.'
            for stage, blocks in enumerate(backbone.layers[:-1])
            if stage > 0
            for index in range(len(blocks))
        ]
        first, last = 'layers.0.', f'layers.{len(backbone.layers) - 1}.'
    else:
        first, *names, last = (f'{name}.' for name in backbone.layers)
    blocks = [(name, backbone.get_submodule(name[:-1])) for name in names]
    for name, block in blocks:
        if not hasattr(block, 'depthwise_conv'):
            raise CheckpointError(
                f'the {type(backbone).__name__} of the config has an '
                f'{type(block).__name__} at {name[:-1]}, of which no table '
                "is known: use mmpretrain's own files, or TIMMBackbone"
            )
    return first, last, blocks


def _stages(blocks: list[tuple[str, nn.Module]]) -> Iterator[tuple[int, int]]:
    """Number the blocks: a stage begins where the width changes."""
    stage, index, width = -1, 0, None
    for _, block in blocks:
        new = block.linear_conv.conv.out_channels
        stage, index = (stage, index + 1) if new == width else (stage + 1, 0)
        width = new
        yield stage, index


PIECES = ('expand_conv', 'depthwise_conv', 'se', 'linear_conv')


def _inverted_words(
    backbone: nn.Module,
    name_block: Callable[[int, int, int], str],
    name_piece: Callable[[list[str], str, str], str],
    ends: tuple[dict[str, str], dict[str, str]],
) -> Rename:
    """Rename networks of inverted residual blocks.

    Args:
        backbone: EfficientNet or MobileNetV3.
        name_block: from number, stage and index in its stage.
        name_piece: from all pieces of the block, the piece, and its layer.
        ends: names of convolution and norm at the beginning and the end.
    """
    first, last, blocks = _inverted_blocks(backbone)
    table = {}
    for layer in ('conv', 'bn'):
        table[f'{first}{layer}.'] = ends[0][layer]
        table[f'{last}{layer}.'] = ends[1][layer]
    for number, ((own, block), (stage, index)) in enumerate(
        zip(blocks, _stages(blocks), strict=True), start=1
    ):
        pieces = [piece for piece in PIECES if hasattr(block, piece)]
        pieces = [p for p in pieces if getattr(block, p) is not None]
        for piece in pieces:
            layers = ('conv', 'bn')
            if piece == 'se':
                layers = ('conv1.conv', 'conv2.conv')
            for layer in layers:
                table[f'{own}{piece}.{layer}.'] = name_block(
                    number, stage, index
                ) + name_piece(pieces, piece, layer)

    def rename(key: str) -> str:
        top, _, name = key.rpartition('.')
        return table[f'{top}.'] + name

    return rename


TV_SLOTS = {'conv': '0.', 'bn': '1.', 'conv1.conv': 'fc1.'}
TV_SLOTS['conv2.conv'] = 'fc2.'


def _torchvision_piece(pieces: list[str], piece: str, layer: str) -> str:
    return f'block.{pieces.index(piece)}.{TV_SLOTS[layer]}'


def _torchvision_ends(last: int) -> tuple[dict[str, str], dict[str, str]]:
    return tuple(
        {'conv': f'features.{n}.0.', 'bn': f'features.{n}.1.'}
        for n in (0, last)
    )


def _efficientnet_torchvision(backbone: nn.Module) -> Rename:
    stages = list(_stages(_inverted_blocks(backbone)[2]))
    return _inverted_words(
        backbone,
        lambda number, stage, index: f'features.{stage + 1}.{index}.',
        _torchvision_piece,
        _torchvision_ends(stages[-1][0] + 2),
    )


def _mobilenet_v3_torchvision(backbone: nn.Module) -> Rename:
    return _inverted_words(
        backbone,
        lambda number, stage, index: f'features.{number}.',
        _torchvision_piece,
        _torchvision_ends(len(_inverted_blocks(backbone)[2]) + 1),
    )


def _timm_piece(pieces: list[str], piece: str, layer: str) -> str:
    if piece == 'se':
        which = 'reduce' if layer.startswith('conv1') else 'expand'
        return f'se.conv_{which}.'
    norms = [name for name in pieces if name != 'se']
    if layer == 'bn':
        return f'bn{norms.index(piece) + 1}.'
    if piece == 'depthwise_conv':
        return 'conv_dw.'
    # without expansion the last convolution is the only 1 x 1
    expands = piece == 'expand_conv' or 'expand_conv' not in pieces
    return 'conv_pw.' if expands else 'conv_pwl.'


def _timm_block(number: int, stage: int, index: int) -> str:
    return f'blocks.{stage}.{index}.'


def _efficientnet_timm(backbone: nn.Module) -> Rename:
    return _inverted_words(
        backbone,
        _timm_block,
        _timm_piece,
        (
            {'conv': 'conv_stem.', 'bn': 'bn1.'},
            {'conv': 'conv_head.', 'bn': 'bn2.'},
        ),
    )


def _mobilenet_v3_timm(backbone: nn.Module) -> Rename:
    stages = list(_stages(_inverted_blocks(backbone)[2]))
    last = f'blocks.{stages[-1][0] + 1}.0.'
    return _inverted_words(
        backbone,
        _timm_block,
        _timm_piece,
        (
            {'conv': 'conv_stem.', 'bn': 'bn1.'},
            {'conv': f'{last}conv.', 'bn': f'{last}bn1.'},
        ),
    )


VIT_WORDS = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^layers\.(\d+)\.ln([12])\.', r'blocks.\1.norm\2.'),
    (r'^layers\.(\d+)\.attn\.', r'blocks.\1.attn.'),
    (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
    (r'^layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'^ln1\.', 'norm.'),
)


def _substitute(table: tuple[tuple[str, str], ...], key: str) -> str:
    for pattern, replacement in table:
        key, count = re.subn(pattern, replacement, key)
        if count:
            break
    return key


def _vision_transformer(backbone: nn.Module) -> Rename:
    return lambda key: _substitute(VIT_WORDS, key)


def _timm_backbone(backbone: nn.Module) -> Rename:
    model = backbone.timm_model
    kind = type(model).__name__
    if kind == 'FeatureGetterNet':
        return lambda key: key.removeprefix(f'{TIMM}model.')
    if kind == 'FeatureListNet':
        # stages_0 is what the whole model calls stages.0
        return lambda key: re.sub(
            r'^([a-z]+)_(\d+)\.', r'\1.\2.', key.removeprefix(TIMM)
        )
    return lambda key: key.removeprefix(TIMM)


# class of a backbone -> words of the file -> its renaming
WORDS: dict[str, dict[str, Callable[[nn.Module], Rename]]] = {
    'ResNet': {'torchvision': _same, 'timm': _same},
    'ResNet_CIFAR': {'torchvision': _same, 'timm': _same},
    'MobileNetV2': {
        'torchvision': _mobilenet_v2_torchvision,
        'timm': _mobilenet_v2_timm,
    },
    'EfficientNet': {
        'torchvision': _efficientnet_torchvision,
        'timm': _efficientnet_timm,
    },
    'MobileNetV3': {
        'torchvision': _mobilenet_v3_torchvision,
        'timm': _mobilenet_v3_timm,
    },
    'VisionTransformer': {'timm': _vision_transformer},
    'TIMMBackbone': {'timm': _timm_backbone},
}


def norm_eps(backbone: nn.Module) -> float | None:
    """Return what the first norm layer of a network adds to variances."""
    for module in backbone.modules():
        if isinstance(module, (_BatchNorm, nn.LayerNorm)):
            return module.eps
    return None


def _check_arithmetic(backbone: nn.Module, words: str, source: str) -> None:
    """Refuse settings that keys do not show but that change the features."""
    kind = type(backbone).__name__
    where = f'{source}: the {kind} of the config'
    if (
        kind == 'ResNet'
        and backbone.depth >= 50
        and backbone.style != 'pytorch'
    ):
        raise CheckpointError(
            f'{where} has style={backbone.style!r}, its strides in 1x1 '
            "convolutions: the weights are of style='pytorch'"
        )
    known: dict[str, tuple[float, ...]] = {
        'ResNet': (1e-5,),
        'ResNet_CIFAR': (1e-5,),
        'MobileNetV2': (1e-5,),
        'VisionTransformer': (1e-6,),
        'EfficientNet': (1e-5,),
        'MobileNetV3': (1e-3,) if words == 'torchvision' else (1e-5,),
    }
    if words == 'timm' and kind in ('EfficientNet', 'MobileNetV3'):
        known[kind] = (1e-5, 1e-3)  # 1e-3: the tf_ models
    eps = norm_eps(backbone)
    if eps is not None and kind in known and eps not in known[kind]:
        raise CheckpointError(
            f'{where} normalises with eps={eps:g}, the network of the file '
            f'with {" or ".join(f"{e:g}" for e in known[kind])}: set '
            f'norm_cfg=dict(type=..., eps={known[kind][0]:g})'
        )
    if kind == 'EfficientNet':
        same = backbone.conv_cfg is not None  # pads as TensorFlow
        if same != (eps == 1e-3):
            raise CheckpointError(
                f'{where} has conv_cfg={backbone.conv_cfg} with eps={eps:g}: '
                'networks of torchvision and timm pad alike on both sides, '
                "conv_cfg=None and norm_cfg=dict(type='BN', eps=1e-5); only "
                "timm's tf_ models pad as TensorFlow, with eps 1e-3"
            )


# --- projectors -------------------------------------------------------------


@dataclass
class _Layer:
    """One linear or norm layer of a projector."""

    kind: str
    shape: tuple[int, ...]
    names: list[str]

    def __str__(self) -> str:
        if self.kind == 'linear':
            return f'linear {self.shape[1]} -> {self.shape[0]}'
        return f'norm {self.shape[0]}'


def _layers_of_file(weights: Mapping[str, Tensor]) -> list[_Layer]:
    """Read the layers of a projector from its keys, in order."""
    layers: dict[str, _Layer] = {}
    for key, value in weights.items():
        name, _, end = key.rpartition('.')
        if end == 'weight' and value.dim() in (1, 2):
            kind = 'linear' if value.dim() == 2 else 'norm'
        elif end == 'running_mean':  # of a norm without weights
            kind = 'norm'
        else:
            continue
        layers.setdefault(name, _Layer(kind, tuple(value.shape), [name]))
    numbers = [re.search(r'(\d+)$', name) for name in layers]
    if all(numbers) and len({n[:-1] for n in layers}) == 1:
        return sorted(layers.values(), key=lambda layer: _number(layer))
    return list(layers.values())


def _number(layer: _Layer) -> int:
    return int(re.search(r'(\d+)$', layer.names[0]).group(1))


def _layers_of_neck(neck: nn.Module | None) -> list[_Layer]:
    """List the layers of a projector in the order of its forward."""
    found: dict[int, _Layer] = {}
    if neck is None:
        return []
    for name, module in neck.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear):
            layer = _Layer('linear', tuple(module.weight.shape), [])
        elif isinstance(module, _BatchNorm):
            layer = _Layer('norm', (module.num_features,), [])
        else:
            continue
        # SwAVNeck names its norm twice, the second time in its place
        before = found.pop(id(module), layer)
        before.names.append(name)
        found[id(module)] = before
    return list(found.values())


def _describe(layers: list[_Layer]) -> str:
    return ', '.join(map(str, layers)) or 'nothing'


def _map_projector(
    weights: Mapping[str, Tensor], neck: nn.Module, source: str
) -> dict[str, Tensor]:
    """Name the weights of a file's projector as those of a neck."""
    theirs, ours = _layers_of_file(weights), _layers_of_neck(neck)
    kind = type(neck).__name__
    if not ours:
        return {}
    if not theirs:
        raise CheckpointError(
            f'{source}: holds no projector for the {kind} of the config; '
            'leave teacher.neck out to use its pooled features, or take the '
            'file of the whole training'
        )
    if [(a.kind, a.shape) for a in theirs] != [
        (b.kind, b.shape) for b in ours
    ]:
        what = 'another width'
        if [a.kind for a in theirs] != [b.kind for b in ours]:
            what = 'other layers'
        raise CheckpointError(
            f'{source}: its projector has {what}: it is '
            f'{_describe(theirs)}; the {kind} of the config is '
            f'{_describe(ours)}. Set teacher.neck to that of the file'
        )
    mapped = {}
    for a, b in zip(theirs, ours, strict=True):
        start = f'{a.names[0]}.'
        for key, value in weights.items():
            if key.startswith(start):
                for name in b.names:
                    mapped[f'{name}.{key[len(start) :]}'] = value
    return mapped


# --- layouts ----------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """The key table of one kind of file.

    Patterns are regular expressions on keys without leading ``module.``;
    beginnings (``networks``, ``projector``, ``others``) are plain.

    Attributes:
        title: whose files these are.
        marks: a file of this layout has a key for each of them.
        against: and none for any of these.
        networks: where in the file the networks are; the first one there
            is taken, unless another is asked for by name.
        rename: applied to the keys inside a network, first match only.
        projector: beginnings of the projector's keys, inside a network.
        others: beginnings of keys that belong to neither part.
        ours: keys are ``backbone.*`` and ``neck.*`` already, under any
            prefix.
        input: how the code that writes these files normalises images;
            ``None`` if files of this layout come from codes that differ.
    """

    title: str
    marks: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    networks: tuple[str, ...] = ('',)
    rename: tuple[tuple[str, str], ...] = ()
    projector: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    ours: bool = False
    input: InputStatistics | None = None


# first convolution of a backbone
RESNET = r'conv1\.weight'
MOBILE = r'features\.0\.0\.weight'  # torchvision's
TIMM_FIRST = (
    r'conv1\.weight|conv_stem\.weight|cls_token|patch_embed\.proj\.weight|'
    r'stem[._].*|stages?[._]0.*|features\.conv0\.weight'
)
CLASSIFIERS = ('fc.', 'classifier.', 'head.')
SEQUENTIAL_RESNET = (
    (r'^encoder\.0\.', 'conv1.'),
    (r'^encoder\.1\.', 'bn1.'),
    (r'^encoder\.4\.', 'layer1.'),
    (r'^encoder\.5\.', 'layer2.'),
    (r'^encoder\.6\.', 'layer3.'),
    (r'^encoder\.7\.', 'layer4.'),
)
SWAV_HEAD = r'^projection_head\.|^prototypes\.'
SIMCLR_HEAD = r'^fc\.3\.weight$'

LAYOUTS: dict[str, Layout] = {
    'mmssd': Layout(
        title='this package',
        marks=(r'^backbone\.',),
        ours=True,
    ),
    'mmpretrain': Layout(
        title='mmpretrain',
        marks=(r'^backbone\.',),
        ours=True,
    ),
    # encoder_k is the momentum encoder
    'moco': Layout(
        title='MoCo v1 and v2',
        marks=(r'^encoder_q\.',),
        against=(r'^teacher_encoder_q\.',),
        networks=('encoder_q.', 'encoder_k.'),
        projector=('fc.',),
        input=IMAGENET,
    ),
    'simclr': Layout(
        title='SimCLR, as SEED reads it',
        marks=(rf'^(?:{RESNET}|{MOBILE})$', SIMCLR_HEAD, r'^fc\.0\.weight$'),
        projector=('fc.',),
    ),
    'swav': Layout(
        title='SwAV',
        marks=(rf'^(?:{RESNET}|{MOBILE})$', SWAV_HEAD),
        projector=('projection_head.',),
        others=('prototypes.',),
        input=SWAV,
    ),
    'byol': Layout(
        title='BYOL in PyTorch',
        marks=(r'^online_(?:network|encoder|backbone)',),
        networks=(
            'online_network.',
            'online_network_state_dict.',
            'online_encoder.',
            'online_backbone.',
            'target_network.',
            'target_network_state_dict.',
            'target_encoder.',
        ),
        rename=(*SEQUENTIAL_RESNET, (r'^net\.', '')),
        # the third is how two of the implementations spell it
        projector=('projector.', 'projection.', 'projetion.'),
        others=('fc.',),
    ),
    'dino': Layout(
        title='DINO, backbone alone or the whole training',
        marks=(
            r'^(?:teacher|student)\.backbone\.|^(?:conv1\.weight|cls_token)$',
        ),
        against=(
            *(rf'^{name}' for name in (*CLASSIFIERS, 'backbone.')),
            SWAV_HEAD,
        ),
        networks=('teacher.', 'student.', ''),
        rename=((r'^backbone\.', ''),),
        projector=('head.mlp.',),
        others=('head.last_layer.',),
        input=IMAGENET,
    ),
    # 1q's map from student to teacher is its fc
    'compress': Layout(
        title='CompRess',
        marks=(rf'^(?:{RESNET}|{MOBILE})$',),
        against=(SWAV_HEAD, SIMCLR_HEAD),
        projector=('fc.',),
        input=IMAGENET,
    ),
    'seed': Layout(
        title='SEED',
        marks=(r'^student\.', r'^teacher\.'),
        against=(r'^(?:student|teacher)\.(?:backbone|head)\.',),
        networks=('student.', 'teacher.'),
        projector=('fc.',),
        input=IMAGENET,
    ),
    # the teacher, loaded from MoCo's file, is saved along
    'disco': Layout(
        title='DisCo',
        marks=(r'^encoder_q\.', r'^teacher_encoder_q\.'),
        networks=('encoder_q.', 'encoder_k.', 'teacher_encoder_q.'),
        projector=('fc.',),
        input=IMAGENET,
    ),
    'torchvision': Layout(
        title='torchvision',
        marks=(rf'^(?:{RESNET}|{MOBILE})$',),
        against=(SWAV_HEAD, SIMCLR_HEAD),
        others=('fc.', 'classifier.'),
        input=IMAGENET,
    ),
    'timm': Layout(
        title='timm',
        marks=(rf'^(?:{TIMM_FIRST})$',),
        against=(SWAV_HEAD, SIMCLR_HEAD, rf'^{MOBILE}$'),
        others=CLASSIFIERS,
    ),
}


def trained_input(
    layout: str,
    backbone: nn.Module,
    weights: Mapping[str, Tensor] | None = None,
) -> InputStatistics | None:
    """Say how the network of a published file saw its images in training.

    Models of timm say so themselves, by the ``pretrained_cfg`` of their
    name.

    Args:
        layout: as which the file was read.
        backbone: what it was read for.
        weights: of the file, if the layout was found by its keys: where
            several layouts fit that disagree, nothing is known.

    Returns:
        ``None`` if it is not known.
    """
    names = {layout}
    inner = getattr(backbone, 'timm_model', None)
    if weights is not None:
        names.update(recognise(weights))
        names.update(['timm'] if inner is not None else [])
    found = set()
    for name in names:
        if name != 'timm':
            found.add(LAYOUTS[name].input)
            continue
        cfg = getattr(inner, 'pretrained_cfg', None) or {}
        mean, std = cfg.get('mean'), cfg.get('std')
        found.add(
            None
            if mean is None or std is None
            else InputStatistics.of_unit_pixels(mean, std)
        )
    return found.pop() if len(found) == 1 else None


def find_weights(
    checkpoint: dict, source: str = 'checkpoint'
) -> OrderedDict[str, Tensor]:
    """Make one flat dict of the weights in a checkpoint.

    As :func:`extract_state_dict`; files that keep several networks in dicts
    of their own (DINO: ``teacher``, ``student``; BYOL) are joined, with
    these names before the keys. All leading ``module.`` are dropped.

    Args:
        checkpoint: as ``load_checkpoint`` returns it.
        source: its name in errors.

    Raises:
        CheckpointError: if there are no weights.
    """
    try:
        found = extract_state_dict(checkpoint, source)
    except CheckpointError:
        found = OrderedDict(
            (f'{name}.{_strip(key)}', value)
            for name, part in checkpoint.items()
            if isinstance(part, dict)
            and part
            and all(isinstance(key, str) for key in part)
            and all(isinstance(value, Tensor) for value in part.values())
            for key, value in part.items()
        )
        if not found:
            raise
    return OrderedDict((_strip(key), value) for key, value in found.items())


def _strip(key: str) -> str:
    while key.startswith(MODULE):
        key = key[len(MODULE) :]
    return key


def _fits(layout: Layout, weights: Mapping[str, Tensor]) -> bool:
    def found(pattern: str) -> bool:
        search = re.compile(pattern).search
        return any(search(key) for key in weights)

    return all(map(found, layout.marks)) and not any(
        map(found, layout.against)
    )


def recognise(weights: Mapping[str, Tensor]) -> list[str]:
    """Return the layouts whose marks the weights bear.

    A bare backbone bears those of several, which read it alike.

    Args:
        weights: as :func:`find_weights` returns them.
    """
    return [name for name, layout in LAYOUTS.items() if _fits(layout, weights)]


def groups(keys: Iterable[str]) -> str:
    """Count keys by their first word, for errors."""
    counts: dict[str, int] = {}
    for key in keys:
        head = key.split('.')[0]
        counts[head] = counts.get(head, 0) + 1
    listed = [f'{name}.* ({count})' for name, count in counts.items()]
    return ', '.join(listed[:10]) + (', ...' if len(listed) > 10 else '')


def _looks_like(weights: Mapping[str, Tensor], but: str = '') -> str:
    """Say which layouts the weights are of, as a part of a sentence."""
    found = [name for name in recognise(weights) if name != but]
    if not found:
        return ''
    return 'it looks like layout=' + ' or '.join(
        f'{name!r} ({LAYOUTS[name].title})' for name in found
    )


def _is_needed(key: str) -> bool:
    return not key.endswith(OPTIONAL)


# --- from a file to backbone.* and neck.* -----------------------------------


def _select_ours(
    weights: Mapping[str, Tensor],
    backbone: nn.Module,
    neck: nn.Module | None,
    prefix: str,
    source: str,
) -> OrderedDict[str, Tensor]:
    """Return the parts under a prefix of a file with our keys."""
    if f'{prefix}checkpoint_sha256' in weights:
        path = bytes(weights[f'{prefix}checkpoint_path'].tolist()).decode(
            errors='replace'
        )
        raise CheckpointError(
            f'{source}: the network under {prefix!r} was a frozen teacher, '
            f'of which only the path is kept: give {path}, or prefix={""!r} '
            'for the student'
        )
    wanted = ('backbone.',) if neck is None else ('backbone.', 'neck.')
    parts = OrderedDict(
        (key[len(prefix) :], value)
        for key, value in weights.items()
        if key.startswith(prefix) and key[len(prefix) :].startswith(wanted)
    )
    if not any(key.startswith('backbone.') for key in parts):
        raise CheckpointError(
            f'{source}: no key begins with {prefix + "backbone."!r}; '
            f'{_suggestion(weights, backbone)}; the file has '
            f'{groups(weights)}'
        )
    return parts


def _suggestion(weights: Mapping[str, Tensor], backbone: nn.Module) -> str:
    own = backbone.state_dict()
    other = _looks_like(
        {k: v for k, v in weights.items() if not k.startswith('backbone.')}
    )
    other = f'; {other}' if other else ''
    if len(set(own) & set(weights)) >= len(own) / 2:
        return (
            'its keys are those of a bare backbone: save them with '
            f"'backbone.' before each{other}"
        )
    prefix = find_prefix(own, weights)
    if prefix is None:
        return f'it is of another architecture or layout{other}'
    if prefix.endswith('backbone.'):
        return f'use prefix={prefix.removesuffix("backbone.")!r}'
    return f'its backbone seems to be at {prefix!r}: another layout{other}'


def _choose_network(
    name: str, weights: Mapping[str, Tensor], prefix: str, source: str
) -> str:
    networks = LAYOUTS[name].networks
    if prefix and prefix not in networks:
        raise CheckpointError(
            f'{source}: layout {name!r} has no network {prefix!r}; it has '
            f'{[n for n in networks if n] or "one, without prefix"}'
        )
    for network in (prefix,) if prefix else networks:
        if any(key.startswith(network) for key in weights):
            return network
    expected = ' or '.join(repr(n) for n in networks)
    looks = _looks_like(weights, name) or 'no known layout fits'
    raise CheckpointError(
        f'{source}: no key begins with {prefix or expected}, as those of '
        f'layout {name!r} ({LAYOUTS[name].title}) do; {looks}; the file has '
        f'{groups(weights)}'
    )


def _map_backbone(
    trunk: Mapping[str, Tensor], backbone: nn.Module, source: str
) -> OrderedDict[str, Tensor]:
    """Name the weights of a file's backbone as our backbone does."""
    kind = type(backbone).__name__
    words = WORDS.get(kind, {'its own': _same})
    own = list(backbone.state_dict())
    best: dict[str, str] = {}
    spoken, hits = '', -1
    for name, make in words.items():
        try:
            rename = make(backbone)
        except CheckpointError as error:
            raise CheckpointError(f'{source}: {error}') from None
        table = {rename(key): key for key in own}
        if len(table) != len(own):
            raise AssertionError(f'{kind}, {name}: two keys get one name')
        count = sum(key in table for key in trunk)
        if count > hits:
            best, spoken, hits = table, name, count
    if hits > 0:
        _check_arithmetic(backbone, spoken, source)
    return OrderedDict(
        (best.get(key, key), value) for key, value in trunk.items()
    )


def _left_out(backbone: nn.Module, trunk: Mapping[str, Tensor]) -> set[str]:
    """Return keys of layers that a backbone ends before.

    Such are the classifier's 1 x 1 convolution of timm's MobileNetV3, and
    what timm leaves out of a model of which it takes some stages only.
    """
    kind = type(backbone).__name__
    if kind == 'MobileNetV3':
        return {key for key in trunk if key.startswith('conv_head.')}
    inner = getattr(backbone, 'timm_model', None)
    if type(inner).__name__ in (
        'FeatureListNet',
        'FeatureGetterNet',
        'EfficientNetFeatures',
        'MobileNetV3Features',
    ):
        rename = _timm_backbone(backbone)
        tops = {rename(key).split('.')[0] for key in backbone.state_dict()}
        return {key for key in trunk if key.split('.')[0] not in tops}
    return set()


def _from_published(
    name: str,
    weights: Mapping[str, Tensor],
    backbone: nn.Module,
    neck: nn.Module | None,
    prefix: str,
    source: str,
) -> OrderedDict[str, Tensor]:
    layout = LAYOUTS[name]
    network = _choose_network(name, weights, prefix, source)
    others = layout.others
    inner = getattr(backbone, 'timm_model', None)
    if layout.others == CLASSIFIERS and inner is not None:
        # what these words mean differs between its models
        cfg = getattr(inner, 'pretrained_cfg', None) or {}
        found = cfg.get('classifier') or ()
        found = (found,) if isinstance(found, str) else tuple(found)
        others = tuple(f'{part}.' for part in found) or others
    trunk: dict[str, Tensor] = {}
    projector: dict[str, Tensor] = {}
    for key, value in weights.items():
        if not key.startswith(network):
            continue
        key = _substitute(layout.rename, key[len(network) :])
        if layout.projector and key.startswith(layout.projector):
            projector[key] = value
        elif not (others and key.startswith(others)):
            trunk[key] = value
    for key in _left_out(backbone, trunk):
        del trunk[key]
    mapped = _map_backbone(trunk, backbone, source)
    own = backbone.state_dict()
    missing = [k for k in own if _is_needed(k) and k not in mapped]
    surplus = [k for k in mapped if k not in own]
    looks = _looks_like(weights, name)
    if (missing or surplus) and looks and not _fits(layout, weights):
        raise CheckpointError(
            f'{source} is not of layout {name!r} ({layout.title}): {looks}.'
            f'\n  {len(missing)} missing key(s): {_listing(missing)}'
            f'\n  {len(surplus)} surplus key(s): {_listing(surplus)}'
        )
    parts = OrderedDict(
        (f'backbone.{key}', value) for key, value in mapped.items()
    )
    if neck is not None:
        if not projector and looks and not _fits(layout, weights):
            raise CheckpointError(
                f'{source}: has no projector of layout {name!r} '
                f'({layout.title}); {looks}'
            )
        for key, value in _map_projector(projector, neck, source).items():
            parts[f'neck.{key}'] = value
    return parts


def _agree(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[key] is b[key] for key in a)


def _recognise_parts(
    weights: Mapping[str, Tensor],
    backbone: nn.Module,
    neck: nn.Module | None,
    prefix: str,
    source: str,
) -> tuple[OrderedDict[str, Tensor], str]:
    own = {f'backbone.{key}' for key in backbone.state_dict()}
    known = recognise(weights)
    if prefix:
        known = [name for name in known if prefix in LAYOUTS[name].networks]
        if any(key.startswith(f'{prefix}backbone.') for key in weights):
            known = known or ['mmssd']
    if not known and type(backbone).__name__ == 'TIMMBackbone':
        known = ['timm']  # of whose models no mark is common to all
    results, errors = {}, {}
    for name in known:
        try:
            results[name] = map_weights(
                weights, name, backbone, neck, prefix, source
            )[0]
        except CheckpointError as error:
            errors[name] = str(error)
    saw = f'the file has {groups(weights)}'
    if not known:
        raise CheckpointError(
            f"{source}: layout='auto' recognises no layout; {saw}; known are "
            f'{sorted(LAYOUTS)}'
        )
    if not results:
        text = '\n'.join(f'  {n}: {errors[n]}' for n in errors)
        raise CheckpointError(
            f"{source}: layout='auto' recognises {known}, but the file does "
            f'not fit the config:\n{text}'
        )
    # those that fit one to one, else the first, for its list of what differs
    needed = {key for key in own if _is_needed(key)}
    exact = {
        name: parts
        for name, parts in results.items()
        if needed <= {k for k in parts if k.startswith('backbone.')} <= own
    } or dict([next(iter(results.items()))])
    first = next(iter(exact))
    differing = [n for n in exact if not _agree(exact[first], exact[n])]
    if differing:
        raise CheckpointError(
            f"{source}: layout='auto' recognises {[first, *differing]}, "
            f'which read it differently; name one of them; {saw}'
        )
    return exact[first], first


def map_weights(
    weights: Mapping[str, Tensor],
    layout: str,
    backbone: nn.Module,
    neck: nn.Module | None = None,
    prefix: str = '',
    source: str = 'checkpoint',
) -> tuple[OrderedDict[str, Tensor], str]:
    """Name the weights of a file as those of a backbone and a projector.

    Keys that no table knows keep their name, so that a strict load lists
    them.

    Args:
        weights: as :func:`find_weights` returns them.
        layout: one of :data:`LAYOUTS`, or ``'auto'``.
        backbone: the network that the weights are for.
        neck: its projector; ``None`` leaves that of the file out.
        prefix: the network inside the file, if it has several:
            ``'student.'`` of a DINO file, any prefix of ``backbone.`` in a
            file of ours. Defaults to the one that the layout takes first.
        source: name of the file in errors.

    Returns:
        Weights by keys ``backbone.*`` and ``neck.*``, and the layout.

    Raises:
        ValueError: if the layout is not known.
        CheckpointError: if the file is of another layout (naming it), has
            no such network, no projector or another one, or if the
            backbone of the config computes otherwise than that of the file;
            with ``'auto'`` if no layout fits, or several that differ.
    """
    check_layout(layout)
    if layout == AUTO:
        return _recognise_parts(weights, backbone, neck, prefix, source)
    if LAYOUTS[layout].ours:
        parts = _select_ours(weights, backbone, neck, prefix, source)
    else:
        parts = _from_published(
            layout, weights, backbone, neck, prefix, source
        )
    return parts, layout


def check_layout(layout: str) -> None:
    """Refuse a layout that is not known.

    Raises:
        ValueError: listing those that are.
    """
    if layout != AUTO and layout not in LAYOUTS:
        raise ValueError(
            f'layout={layout!r} of the teacher: known are '
            f'{sorted([*LAYOUTS, AUTO])}'
        )
