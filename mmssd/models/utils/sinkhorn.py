"""Entropic assignment of embeddings to prototypes over all processes."""

import torch
from mmengine import dist
from torch import Tensor


def _logsumexp_over_ranks(x: Tensor) -> Tensor:
    """Log of the sum of ``exp(x)`` over the rows of all processes.

    The one collective: an all-gather of one row per process.
    """
    local = torch.logsumexp(x, dim=0, keepdim=True)  # (1, K)
    if dist.get_world_size() == 1:
        return local
    return torch.logsumexp(
        torch.cat(dist.all_gather(local)), dim=0, keepdim=True
    )


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    epsilon: float = 0.05,
    iterations: int = 3,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Codes of SwAV: prototype assignments with near-uniform marginals.

    `Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments <https://arxiv.org/abs/2006.09882>`_, section 3.1. Starting
    from :math:`Q_{bk} = \exp(S_{bk} / \epsilon)`, each iteration divides
    the columns by their sums over the rows of **all** processes, then every
    row by its own sum, so each row sums to one at the end.

    The iteration runs on logarithms in at least float32, so neither a small
    ``epsilon`` nor rows far below the others overflow or vanish. The result
    equals that of one process on the joined rows, in any order of rows, and
    nothing on the way waits for the device.

    Args:
        scores: ``(B, K)`` similarities of this process' rows to the
            prototypes; B may differ between processes, K may not.
        epsilon: entropy weight, > 0. SwAV's default 0.05.
        iterations: rounds, >= 1. SwAV's default 3.
        mask: optional ``(B,)`` booleans; rows marked ``False`` are treated
            as absent (they do not count in the column sums and their codes
            are zero).

    Returns:
        ``(B, K)`` codes without gradient, each (unmasked) row summing to 1.

    Raises:
        ValueError: if the shape of ``scores`` or ``mask``, ``epsilon`` or
            ``iterations`` is out of range.
    """
    if scores.dim() != 2 or scores.size(1) == 0:
        raise ValueError(
            f'scores of shape {tuple(scores.shape)}: expected (rows, '
            'prototypes) with at least one prototype'
        )
    if not epsilon > 0:
        raise ValueError(f'epsilon={epsilon}: must be > 0 (SwAV uses 0.05)')
    if iterations < 1:
        raise ValueError(f'iterations={iterations}: must be >= 1')
    if mask is not None and mask.shape != scores.shape[:1]:
        raise ValueError(
            f'mask of shape {tuple(mask.shape)} for {scores.size(0)} rows'
        )
    dtype = torch.promote_types(scores.dtype, torch.float32)
    with torch.autocast(scores.device.type, enabled=False):
        log_codes = scores.to(dtype) / epsilon
        absent = None if mask is None else ~mask[:, None]
        for _ in range(iterations):
            if absent is not None:
                log_codes = log_codes.masked_fill(absent, -torch.inf)
            columns = _logsumexp_over_ranks(log_codes)
            if absent is not None:
                # no row present anywhere: avoid -inf minus -inf
                columns = columns.masked_fill(columns == -torch.inf, 0.0)
                log_codes = log_codes.masked_fill(absent, 0.0)
            log_codes = log_codes - columns
            log_codes = torch.log_softmax(log_codes, dim=1)
        codes = log_codes.exp()
        return codes if absent is None else codes.masked_fill(absent, 0.0)
