"""A ring buffer of features that is part of the checkpoint."""

import torch
import torch.nn.functional as F
from mmengine import dist
from torch import Tensor, nn

INITS = ('unit', 'zeros', 'uniform')


class FeatureQueue(nn.Module):
    r"""First-in, first-out memory of feature rows, equal on all processes.

    Both the rows and the write position are registered buffers, so a
    resumed run goes on with the same memory. The queue of MoCo
    (https://arxiv.org/abs/1911.05722), SEED, DisCo and CompRess.

    Args:
        dim: width D of a row.
        length: number of rows K.
        init: content at birth. ``'unit'``: normal directions of unit
            length (MoCo); ``'zeros'``: empty rows (SwAV); ``'uniform'``:
            :math:`U(-a, a)` with :math:`a = 1/\sqrt{D/3}` (CompRess).

    Raises:
        ValueError: if ``dim`` or ``length`` is not positive, or ``init`` is
            unknown.
    """

    features: Tensor  # (K, D)
    pointer: Tensor  # (), row that the next write starts at

    def __init__(self, dim: int, length: int, init: str = 'unit') -> None:
        super().__init__()
        if dim < 1 or length < 1:
            raise ValueError(
                f'a queue of {length} rows of width {dim}: both must be >= 1'
            )
        if init == 'unit':
            rows = F.normalize(torch.randn(length, dim), dim=1)
        elif init == 'zeros':
            rows = torch.zeros(length, dim)
        elif init == 'uniform':
            rows = torch.empty(length, dim).uniform_(-1, 1)
            rows = rows * (3 / dim) ** 0.5
        else:
            raise ValueError(f'init={init!r}: must be one of {INITS}')
        self.register_buffer('features', rows)
        self.register_buffer('pointer', torch.zeros((), dtype=torch.long))
        self._waiting: list[Tensor] = []

    @property
    def length(self) -> int:
        """Number of rows K."""
        return self.features.size(0)

    @torch.no_grad()
    def enqueue(self, x: Tensor, later: bool = False) -> None:
        """Store the rows of all processes, in the order of their ranks.

        Rows go to ``pointer``, ``pointer + 1``, ... modulo the length; of
        more rows than the queue holds only the last ``length`` stay. The
        position is computed on the device, so nothing waits for it.

        Args:
            x: ``(B, D)`` rows of this process, any B that is equal on all
                processes. Stored as given, without gradient.
            later: let them wait for those of the next call, so that all
                steps of an accumulated gradient read the same queue.

        Raises:
            ValueError: if the rows have another width.
        """
        if x.dim() != 2 or x.size(1) != self.features.size(1):
            raise ValueError(
                f'cannot enqueue shape {tuple(x.shape)} into a queue of '
                f'rows of width {self.features.size(1)}'
            )
        rows = x.detach().to(self.features.dtype)
        if dist.get_world_size() > 1:
            rows = torch.cat(dist.all_gather(rows.contiguous()))
        if later:
            self._waiting.append(rows.clone())
            return
        if self._waiting:
            rows = torch.cat([*self._waiting, rows])
            self._waiting.clear()
        written = rows.size(0)
        skipped = max(written - self.length, 0)
        offsets = torch.arange(skipped, written, device=rows.device)
        index = (self.pointer + offsets) % self.length
        self.features.index_copy_(0, index, rows[skipped:])
        self.pointer.add_(written).remainder_(self.length)

    def extra_repr(self) -> str:
        """Show the size in the module's representation."""
        return f'dim={self.features.size(1)}, length={self.length}'
