"""Training in bfloat16 on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmpretrain.registry import OPTIM_WRAPPERS
from torch import nn

DTYPES = {'bfloat16': torch.bfloat16, 'float32': torch.float32}


def _leave_autocast(conv: nn.Conv2d, inputs: tuple) -> tuple | None:
    x = inputs[0]
    height, width = x.shape[-2:]
    if (
        (height >= conv.stride[0] and width >= conv.stride[1])
        or max(conv.kernel_size) == 1
        or not torch.is_autocast_enabled('cpu')
    ):
        return None
    conv._float32 = torch.autocast('cpu', enabled=False)
    conv._float32.__enter__()
    return (x.float(), *inputs[1:])


def _enter_autocast(conv: nn.Conv2d, inputs: tuple, output: object) -> None:
    context = conv.__dict__.pop('_float32', None)
    if context is not None:
        context.__exit__(None, None, None)


def guard_convolutions(model: nn.Module) -> None:
    """Keep convolutions of maps narrower than their stride in float32.

    Some taps of such a kernel read nothing but padding (3x3 with stride 2 on
    a map one pixel wide: all but the middle column) and have a zero gradient.
    oneDNN's bfloat16 kernel for the CPU never writes it and returns whatever
    the memory held: training goes wrong by chance, with or without NaN. In
    float32 the gradient is right, and so tiny a map costs next to nothing.

    Args:
        model: its ``Conv2d`` modules get the hooks, once.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and not getattr(
            module, '_is_guarded', False
        ):
            module._is_guarded = True
            module.register_forward_pre_hook(_leave_autocast)
            module.register_forward_hook(_enter_autocast, always_call=True)


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Run the forward pass under autocast in bfloat16, on CPU or GPU.

    bfloat16 has the range of float32, so the loss needs no scaling and the
    optimizer state is that of ``OptimWrapper``: a run can go on with either.
    mmengine's ``AmpOptimWrapper`` refuses the CPU. Weights, gradients and
    objectives stay in float32.

    Note:
        On the CPU, the strided convolutions of :func:`guard_convolutions`
        stay in float32: their bfloat16 weight gradient is undefined.

    Args:
        dtype (str | torch.dtype): ``'bfloat16'``, or ``'float32'`` for no
            autocast. Defaults to ``'bfloat16'``.
        **kwargs: arguments of mmengine's ``OptimWrapper``: ``optimizer``,
            ``accumulative_counts``, ``clip_grad``.

    Raises:
        ValueError: for another dtype.
    """

    def __init__(
        self, dtype: str | torch.dtype = 'bfloat16', **kwargs
    ) -> None:
        name = str(dtype).removeprefix('torch.')
        if name not in DTYPES:
            raise ValueError(
                f'dtype={dtype!r}: must be one of {list(DTYPES)}; float16 '
                'needs loss scaling, use AmpOptimWrapper (GPU only)'
            )
        super().__init__(**kwargs)
        self.dtype = DTYPES[name]

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast on the model's device, and its accumulation context.

        Args:
            model: the training model; its first parameter tells the device.
        """
        device = next(model.parameters()).device.type
        enabled = self.dtype is not torch.float32
        if enabled and device == 'cpu':
            guard_convolutions(model)
        with (
            super().optim_context(model),
            torch.autocast(
                device, dtype=self.dtype if enabled else None, enabled=enabled
            ),
        ):
            yield
