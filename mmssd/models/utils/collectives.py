"""What processes exchange within a step, besides sinkhorn and the queues.

In a single process each of these returns its input.
"""

import torch
from mmengine import dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def _own(rows: Tensor) -> Tensor:
    """Return this process' share of rows that all processes hold."""
    return rows.chunk(dist.get_world_size())[dist.get_rank()]


@torch.no_grad()
def draw_permutation(batch: int, device: torch.device | str) -> Tensor:
    """Draw an order of the rows of all processes, equal on all of them.

    Every process draws, so that their generators stay in step, and all take
    that of rank 0; nothing waits for the device.

    Args:
        batch: rows of this process, equal on all.
        device: of the result.

    Returns:
        ``(W batch,)`` indices.
    """
    permutation = torch.randperm(batch * dist.get_world_size(), device=device)
    if dist.get_world_size() > 1:
        dist.broadcast(permutation, src=0)
    return permutation


@torch.no_grad()
def shuffle_rows(x: Tensor, permutation: Tensor) -> Tensor:
    """Exchange rows, so that each process gets those of other ones.

    Shuffled batch norm of MoCo (https://arxiv.org/abs/1911.05722, section
    3.3): the key of an image must not share its batch statistics with the
    query of the same image. In one process it changes nothing, as the
    statistics are of the same rows in any order.

    Args:
        x: ``(N, ...)`` rows of this process; N is equal on all.
        permutation: of :func:`draw_permutation`.

    Returns:
        ``(N, ...)``, row i of all processes' being row ``permutation[i]`` of
        all processes' inputs.
    """
    if dist.get_world_size() == 1:
        return x
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    everything = torch.cat(dist.all_gather(x.detach().contiguous()))
    rows = everything[_own(permutation)]
    return rows.contiguous(memory_format=torch.channels_last) if last else rows


@torch.no_grad()
def unshuffle_rows(x: Tensor, permutation: Tensor) -> Tensor:
    """Undo :func:`shuffle_rows`, for whatever was computed row by row.

    Args:
        x: ``(N, ...)`` rows of this process in the shuffled order.
        permutation: the one they were shuffled by.

    Returns:
        ``(N, ...)`` in the order of this process' images.
    """
    if dist.get_world_size() == 1:
        return x
    everything = torch.cat(dist.all_gather(x.detach().contiguous()))
    return everything[_own(permutation.argsort())]


def gather_rows(x: Tensor) -> Tensor:
    """Join the rows of all processes, in rank order, with gradient.

    The gradient of a row is the sum of those of all processes. As
    ``DistributedDataParallel`` averages over the W processes, a loss that
    is the mean over the own rows trains as in one process.

    Args:
        x: ``(N, D)`` rows of this process; N is equal on all.

    Returns:
        ``(W N, D)``.
    """
    if dist.get_world_size() == 1:
        return x
    return torch.cat(all_gather(x.contiguous()))


@torch.no_grad()
def mean_over_processes(x: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes, without gradient."""
    if dist.get_world_size() == 1:
        return x.detach()
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
