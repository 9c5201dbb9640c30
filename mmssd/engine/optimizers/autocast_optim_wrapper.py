"""Training in bfloat16 on any device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmpretrain.registry import OPTIM_WRAPPERS
from torch import nn

DTYPES = {'bfloat16': torch.bfloat16, 'float32': torch.float32}


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Run the forward pass under autocast in bfloat16, on CPU or GPU.

    bfloat16 has the range of float32, so the loss needs no scaling and the
    optimizer state is that of ``OptimWrapper``: a run can go on with either.
    mmengine's ``AmpOptimWrapper`` refuses the CPU. Weights, gradients and
    objectives stay in float32.

    Note:
        On the CPU, bfloat16 convolutions over 1x1 maps were seen to give NaN
        weight gradients while the forward pass was finite. Use crops or
        stems that keep the last stage larger, and ``HealthHook``, which
        stops at the first such step.

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
        with (
            super().optim_context(model),
            torch.autocast(
                device, dtype=self.dtype if enabled else None, enabled=enabled
            ),
        ):
            yield
