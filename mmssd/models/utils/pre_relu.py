"""Maps of a backbone's stages before their last ReLU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from mmpretrain.models.backbones import MobileNetV2, ResNet
from mmpretrain.models.backbones.resnet import BasicBlock, Bottleneck
from mmpretrain.models.backbones.resnext import Bottleneck as ResNeXtBottleneck
from torch import Tensor, nn

# Their last ReLU follows the sum of residual and shortcut.
RESIDUAL_BLOCKS = (BasicBlock, Bottleneck, ResNeXtBottleneck)
PROBE_SIDE = 224  # pixels; a multiple of every stride
# The last layers at stride 4, 8, 16 and 32 (24, 32, 96, 320 channels).
MOBILENET_V2_STAGES = ('layer2', 'layer3', 'layer5', 'layer7')


@dataclass(frozen=True)
class PreReLUStage:
    """Where a stage ends.

    Attributes:
        name: of the stage in the backbone.
        block: its last block.
        norm: the last batch norm on the block's residual branch.
        relu: the block's activation, which it may use several times; None
            if the block ends without one.
    """

    name: str
    block: nn.Module
    norm: nn.Module
    relu: nn.Module | None

    @property
    def channels(self) -> int:
        """Width of the map."""
        return self.norm.num_features


def _stage(backbone: nn.Module, name: str) -> PreReLUStage | None:
    block = getattr(backbone, name)[-1]
    # exactly these: derived blocks (SE, Res2Net) act after their last norm
    if type(block) in RESIDUAL_BLOCKS:
        norm = block.norm2 if isinstance(block, BasicBlock) else block.norm3
        relu = block.relu
    elif isinstance(backbone, MobileNetV2):
        norm, relu = block.conv[-1].norm, None
    else:
        return None
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return None
    return PreReLUStage(name, block, norm, relu)


def pre_relu_stages(backbone: nn.Module) -> tuple[PreReLUStage, ...]:
    """Find the ends of a backbone's stages.

    For a ResNet or ResNeXt (also RegNet, ResNetV1c and V1d) that is the last
    block of every stage; for a MobileNetV2 the last one at stride 4, 8, 16
    and 32, whose output is linear.

    Raises:
        ValueError: for another backbone, or one without batch norm.
    """
    names = ()
    if isinstance(backbone, ResNet):
        names = tuple(backbone.res_layers)
    elif isinstance(backbone, MobileNetV2):
        names = MOBILENET_V2_STAGES
    stages = [_stage(backbone, name) for name in names]
    if not stages or None in stages:
        raise ValueError(
            f'maps before the ReLU of {type(backbone).__name__} are not '
            'known: use ResNet, ResNeXt, RegNet or MobileNetV2 of '
            'mmpretrain, with batch norm'
        )
    return tuple(stages)


@contextmanager
def collect_pre_relu(backbone: nn.Module) -> Iterator[list[Tensor]]:
    """Collect the pre-ReLU maps of the forward pass inside the context.

    .. code-block:: python

        with collect_pre_relu(backbone) as maps:
            output = backbone(images)

    The maps are part of the graph of the same pass: the sum of residual
    branch and shortcut (of the last linear layer, for a MobileNetV2), which
    the block's ReLU then receives as a copy where it works in place. The
    output of the backbone does not change. Hooks are gone afterwards.

    Yields:
        list, after the pass with one ``(N, C, H, W)`` tensor per stage.

    Raises:
        ValueError: see :func:`pre_relu_stages`.
    """
    stages = pre_relu_stages(backbone)
    found: dict[int, Tensor] = {}
    last: set[int] = set()  # stages whose next ReLU is the last
    maps: list[Tensor] = []

    def after_norm(index: int):
        return lambda module, args, output: last.add(index)

    def before_relu(index: int):
        def hook(module, args):
            if index not in last:
                return None
            last.discard(index)
            found[index] = args[0]
            return (args[0].clone(),) if module.inplace else None

        return hook

    def after_block(index: int):
        def hook(module, args, output):
            maps.append(found.pop(index, output))

        return hook

    with ExitStack() as stack:
        for index, stage in enumerate(stages):
            handles = [stage.block.register_forward_hook(after_block(index))]
            if stage.relu is not None:
                handles += [
                    stage.norm.register_forward_hook(after_norm(index)),
                    stage.relu.register_forward_pre_hook(before_relu(index)),
                ]
            for handle in handles:
                stack.callback(handle.remove)
        yield maps


@torch.no_grad()
def pre_relu_sizes(
    backbone: nn.Module, side: int = PROBE_SIDE
) -> tuple[tuple[int, int], ...]:
    """Height and width of the maps, found without computing them.

    The backbone runs on tensors that have a shape only, so this takes
    neither memory nor much time, and leaves its statistics alone.

    Args:
        backbone: see :func:`pre_relu_stages`; on any device.
        side: of the image in pixels. Defaults to 224.

    Returns:
        One pair per stage.

    Raises:
        ValueError: see :func:`pre_relu_stages`.
    """
    tensors = [*backbone.named_parameters(), *backbone.named_buffers()]
    shapes = {name: value.to('meta') for name, value in tensors}
    # two images: batch norm in training mode refuses a single value
    images = torch.empty(2, 3, side, side, device='meta')
    with collect_pre_relu(backbone) as maps:
        torch.func.functional_call(backbone, shapes, (images,))
    return tuple(tuple(m.shape[2:]) for m in maps)
