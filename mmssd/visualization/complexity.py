"""Parameters and FLOPs of the networks of a config."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from torch import Tensor, nn

from mmssd.models.distillers.encodings import encode
from mmssd.models.utils.step import NETWORKS, last_output, pool_features

from .views import build_on_meta, seen_by

# what neither multiplies nor adds much, and mmengine has no count of
NOT_COUNTED = {
    *('aten::add', 'aten::add_', 'aten::mul', 'aten::mul_', 'aten::div'),
    *('aten::sub', 'aten::rsub', 'aten::mean', 'aten::softmax'),
    *('aten::gelu', 'aten::silu', 'aten::silu_', 'aten::sigmoid'),
    *('aten::hardswish', 'aten::hardswish_', 'aten::hardsigmoid'),
    *('aten::hardsigmoid_', 'aten::max_pool2d', 'aten::avg_pool2d'),
    *('aten::pad', 'aten::relu', 'aten::relu_', 'aten::clamp', 'aten::clamp_'),
    'aten::feature_dropout',
}
# of detectors and segmentors, in the order in which they run
DENSE_HEADS = ('rpn_head', 'bbox_head', 'decode_head', 'auxiliary_head')


@dataclass
class Part:
    """Cost of one part of a network.

    Attributes:
        network: ``'student'``, ``'teacher'``, ``'momentum'``.
        part: ``'backbone'``, ``'neck'`` or ``'head'``; of a detector or
            segmentor the names of its parts.
        parameters: their number.
        flops: of one image in the forward direction, a fused
            multiply-add counted as one, by the size of the view
            ``(height, width)``; empty where it is not computed.
        per_image: sum over the views of a training image that the network
            sees; ``None`` if that is not known.
        missed: operations that mmengine has no count of.
    """

    network: str
    part: str
    parameters: int
    flops: dict[tuple[int, int], int] = field(default_factory=dict)
    per_image: int | None = None
    missed: tuple[str, ...] = ()


def _attention_flops(inputs: Sequence, outputs: Sequence) -> int:
    """Multiply-adds of QK^T and of its product with V."""
    query, key, value = (v.type().sizes() for v in inputs[:3])
    rows = 1
    for size in query[:-1]:
        rows *= size
    return rows * key[-2] * (query[-1] + value[-1])


class _Call(nn.Module):
    """A function of a module as a module, for the counter."""

    def __init__(self, module: nn.Module, function) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.module, x)


def count_flops(
    module: nn.Module, inputs: Tensor, function=None, training: bool = False
) -> tuple[int, tuple[str, ...]]:
    """Count the FLOPs of a forward pass by mmengine's analyzer.

    A fused multiply-add counts as one. To what mmengine counts comes
    PyTorch's fused attention.

    Args:
        module: on the device of the inputs, not the meta device.
        inputs: of one image.
        function: ``(module, inputs) -> Tensor``; by default the module
            itself.
        training: count what happens in training mode.

    Returns:
        The FLOPs, and the operations that were not counted.
    """
    function = function or (lambda module, x: last_output(module(x)))
    module.train(training)
    analyzer = FlopAnalyzer(_Call(module, function), (inputs,))
    analyzer.set_op_handle(
        'aten::scaled_dot_product_attention', _attention_flops
    )
    analyzer.unsupported_ops_warnings(False)
    analyzer.uncalled_modules_warnings(False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of tracing
        total = analyzer.total()
    missed = set(analyzer.unsupported_ops()) - NOT_COUNTED
    return int(total), tuple(sorted(missed))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _project(neck: nn.Module, features: Tensor, dropout: bool) -> Tensor:
    """Run a projector as a training step does."""
    fields = (
        {'embeddings', 'dropout_embeddings'} if dropout else {'embeddings'}
    )
    found = encode(nn.Identity(), neck, [features], frozenset(fields))
    return torch.cat(found.embeddings + found.dropout_embeddings)


def network_complexity(
    config: Config, views: Sequence[tuple[int, int]]
) -> list[Part]:
    """Count parameters and FLOPs of the networks of a config.

    Nothing is loaded: the networks get zeros for weights, one after the
    other.

    Args:
        config: loaded; of a distiller, a classifier, a detector or a
            segmentor. The head for regions is counted at as many regions as
            the test takes at most.
        views: height and width of every view of a training image, global
            crops first.

    Returns:
        Backbone, projector and classification head of each network, as far
        as there are such; and the objectives of a distiller, with their
        parameters alone. Of what cannot be traced, ``missed`` says so.

    Raises:
        ValueError: if the views do not suffice for a head.
    """
    model = build_on_meta(config)
    if hasattr(model, 'roi_head') or any(
        hasattr(model, name) for name in DENSE_HEADS
    ):
        return _dense_parts(model, views)
    tensors = [torch.empty(1, 3, *size, device='meta') for size in views]
    distils = hasattr(model, 'needs') and hasattr(model, '_count_global')
    if distils:
        seen = seen_by(model, tensors)
    else:
        seen = [['student', 'teacher'] for _ in tensors]
    parts = []
    for name in NETWORKS:
        network = model if name == 'student' else getattr(model, name, None)
        if network is None or not hasattr(network, 'backbone'):
            continue
        resized = getattr(network, 'input_size', None)
        sizes = [
            resized or size
            for size, names in zip(views, seen, strict=True)
            if name in names
        ]
        wanted = getattr(model.needs, name) if distils else frozenset()
        for part in ('backbone', 'neck', 'head'):
            module = getattr(network, part, None)
            if isinstance(module, nn.Module):
                _materialise(module)
        parts += _network_parts(name, network, sizes, wanted, distils)
        network.backbone.to('meta')
    if distils:
        parts += [
            Part('objective', name, _parameters(head))
            for name, head in model.heads.items()
        ]
    return parts


def _materialise(module: nn.Module) -> None:
    """Give a module of the meta device zeros on the CPU."""
    module.to_empty(device='cpu')
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.zero_()


def _network_parts(
    name: str,
    network: nn.Module,
    sizes: Sequence[tuple[int, int]],
    wanted: frozenset[str],
    distils: bool,
) -> list[Part]:
    """Count the parts of one network.

    Args:
        name: of the network.
        network: with a backbone.
        sizes: of the views that it sees.
        wanted: what the heads of a distiller read of it.
        distils: whether it is of a distiller, with a projector.
    """
    backbone = Part(name, 'backbone', _parameters(network.backbone))
    parts, features, dropout = [backbone], None, False
    for size in dict.fromkeys(sizes):
        view = torch.zeros(1, 3, *size)
        backbone.flops[size], backbone.missed = count_flops(
            network.backbone, view
        )
        if distils or getattr(network, 'head', None) is not None:
            with torch.no_grad():
                features = pool_features(network.backbone(view))
    backbone.per_image = sum(backbone.flops[size] for size in sizes)
    for kind in ('neck', 'head'):
        module = getattr(network, kind, None)
        if module is None or not isinstance(module, nn.Module):
            continue
        part = Part(name, kind, _parameters(module))
        if kind == 'neck' and distils:
            dropout = 'dropout_embeddings' in wanted
            used = wanted & {'embeddings', 'dropout_embeddings'}
            run = functools.partial(_run_neck, dropout)
        elif kind == 'head' and hasattr(module, 'fc'):
            used, run = True, _run_head
        else:
            if part.parameters:
                parts.append(part)
            continue
        parts.append(part)
        if features is None or not used:
            part.per_image = 0
            continue
        # Of a vector, whatever the size of the view. Dropout views are made
        # in training, where a batch norm wants more than one row.
        both = kind == 'neck' and dropout
        rows = features.repeat(2, 1) if both else features
        flops, part.missed = count_flops(module, rows, run, both)
        flops //= len(rows)
        part.flops = {size: flops for size in backbone.flops}
        part.per_image = flops * len(sizes)
    return parts


def _run_neck(dropout: bool, neck: nn.Module, features: Tensor) -> Tensor:
    return _project(neck, features[:, :, None, None], dropout)


def _run_head(head: nn.Module, features: Tensor) -> Tensor:
    return head((features,))


# --- detectors and segmentors -----------------------------------------------


def _flat(output) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for item in output or () for tensor in _flat(item)]


def _dense_parts(
    model: nn.Module, sizes: Sequence[tuple[int, int]]
) -> list[Part]:
    """Count the parts of a detector or segmentor, each by itself.

    What selects regions between them has no multiply-adds to speak of.
    """
    _materialise(model)
    names = ('backbone', 'neck', *DENSE_HEADS)
    modules = {name: getattr(model, name, None) for name in names}
    modules = {k: m for k, m in modules.items() if isinstance(m, nn.Module)}
    parts = {
        name: Part('student', name, _parameters(module))
        for name, module in modules.items()
    }
    for size in dict.fromkeys(sizes):
        maps = torch.zeros(1, 3, *size)
        for name, module in modules.items():
            _count(parts[name], size, module, maps)
            if name in ('backbone', 'neck'):
                with torch.no_grad():
                    maps = module(maps)
    heads = getattr(model, 'roi_head', None)
    if heads is not None:
        parts['roi_head'] = _region_part(model, heads, sizes)
    for part in parts.values():
        if part.flops:
            part.per_image = sum(part.flops[tuple(size)] for size in sizes)
    return list(parts.values())


def _region_part(
    model: nn.Module, heads: nn.Module, sizes: Sequence[tuple[int, int]]
) -> Part:
    """Count the heads for regions, the same for every size of an image."""
    part = Part('student', 'roi_head', _parameters(heads))
    if 'rpn' not in (getattr(model, 'test_cfg', None) or {}):
        part.missed = ('roi_head, of which test_cfg.rpn tells no number',)
        return part
    total = 0
    for number, module, region in _regions(model, heads):
        alone = Part('student', 'roi_head', 0)
        _count(alone, region.shape[2:], module, region)
        part.missed += alone.missed
        total += number * sum(alone.flops.values())
    if not part.missed:
        part.flops = dict.fromkeys(map(tuple, sizes), total)
    return part


def _count(part: Part, size, module: nn.Module, inputs) -> None:
    """Add the FLOPs of a part, or that it cannot be traced."""
    try:
        part.flops[tuple(size)], missed = count_flops(
            module,
            _flat(inputs)[0],
            lambda module, _: tuple(_flat(module(inputs))),
        )
    except Exception as error:  # whatever a forward makes of a plain call
        reason = (str(error).splitlines() or [''])[0]
        missed = (f'{part.part}, which cannot be traced ({reason})',)
        part.flops = {}
    part.missed = tuple(dict.fromkeys((*part.missed, *missed)))


class _Region(nn.Module):
    """What one region goes through."""

    def __init__(self, shared: nn.Module | None, head: nn.Module) -> None:
        super().__init__()
        self.shared, self.head = shared, head

    def forward(self, region: Tensor):
        return self.head(
            region if self.shared is None else self.shared(region)
        )


def _regions(
    model: nn.Module, heads: nn.Module
) -> Iterator[tuple[int, nn.Module, Tensor]]:
    """Yield how many regions a head takes, the head, and one region."""
    numbers = dict(
        bbox=model.test_cfg.rpn.max_per_img,
        mask=model.test_cfg.rcnn.max_per_img,
    )
    shared = getattr(heads, 'shared_head', None)
    for kind, number in numbers.items():
        head = getattr(heads, f'{kind}_head', None)
        extractor = getattr(heads, f'{kind}_roi_extractor', None)
        if head is None or extractor is None:
            continue
        if isinstance(extractor, nn.ModuleList):  # stages of a cascade
            extractor = extractor[0]
        size = extractor.roi_layers[0].output_size
        yield (
            number,
            _Region(shared, head),
            torch.zeros(1, extractor.out_channels, *size),
        )
