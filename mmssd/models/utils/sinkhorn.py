"""Entropic assignment of embeddings to prototypes over all processes."""

import torch
from mmengine import dist
from torch import Tensor

# exponents whose exponentials, and products of them, float32 can hold
MAX_RANGE = 60.0


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


def _sum_over_ranks(x: Tensor) -> Tensor:
    """Sum of one vector per process; the same collective."""
    if dist.get_world_size() == 1:
        return x
    return torch.stack(dist.all_gather(x)).sum(0)


def _by_logarithms(
    log_codes: Tensor, iterations: int, absent: Tensor | None, first: int
) -> Tensor:
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
    codes = log_codes[first:].exp()
    return codes if absent is None else codes.masked_fill(absent[first:], 0.0)


def _by_factors(
    kernel: Tensor, iterations: int, absent: Tensor | None, first: int
) -> Tensor:
    """One factor a row and one a column; the kernel is overwritten."""
    if absent is not None:
        kernel.masked_fill_(absent, 0.0)
        absent = absent[:, 0]
    rows = kernel.new_ones(kernel.size(0))
    for _ in range(iterations):
        sums = _sum_over_ranks(kernel.t() @ rows)
        sums = sums.masked_fill(sums == 0, 1.0)  # no row present anywhere
        # up to 1: factors would drift by rows / columns in each round
        columns = sums.min() / sums
        rows = 1 / (kernel @ columns)
        if absent is not None:
            rows = rows.masked_fill(absent, 0.0)
    codes = kernel[first:]
    if first:
        codes = codes.clone()  # a view would keep the whole kernel
    return codes.mul_(rows[first:, None]).mul_(columns)


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    epsilon: float = 0.05,
    iterations: int = 3,
    mask: Tensor | None = None,
    bound: float | None = None,
    last: int | None = None,
    overwrite: bool = False,
) -> Tensor:
    r"""Codes of SwAV: prototype assignments with near-uniform marginals.

    `Unsupervised Learning of Visual Features by Contrasting Cluster
    Assignments <https://arxiv.org/abs/2006.09882>`_, section 3.1. Starting
    from :math:`Q_{bk} = \exp(S_{bk} / \epsilon)`, each iteration divides
    the columns by their sums over the rows of **all** processes, then every
    row by its own sum, so each row sums to one at the end.

    The iteration runs on logarithms in at least float32, so neither a small
    ``epsilon`` nor rows far below the others overflow or vanish. Where the
    scores are known to be cosines (``bound=1``) and ``epsilon`` is not tiny,
    the exponentials fit into float32 as they are: then
    :math:`Q = \mathrm{diag}(r) \exp((S - 1) / \epsilon) \mathrm{diag}(c)`,
    and the iteration changes r and c alone, at a sixth of the time. The result
    equals that of one process on the joined rows, in any order of rows, and
    nothing on the way waits for the device.

    Args:
        scores: ``(B, K)`` similarities of this process' rows to the
            prototypes; B may differ between processes, K may not.
        epsilon: entropy weight, > 0. SwAV's default 0.05.
        iterations: rounds, >= 1. SwAV's default 3.
        mask: optional ``(B,)`` booleans; rows marked ``False`` are treated
            as absent (they do not count in the column sums and their codes
            are zero), whatever they hold.
        bound: no score is (noticeably) larger in magnitude; ``None`` if
            that is not known. Scores beyond it are right as well as long
            as their exponentials do not overflow.
        last: how many rows at the end to return codes of, where those of a
            queue before them only take part; ``None`` for all.
        overwrite: whether the memory of the scores may be used.

    Returns:
        ``(B, K)`` or ``(last, K)`` codes without gradient, each (unmasked)
        row summing to 1.

    Raises:
        ValueError: if the shape of ``scores`` or ``mask``, ``epsilon``,
            ``iterations``, ``bound`` or ``last`` is out of range.
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
    if bound is not None and not bound > 0:
        raise ValueError(f'bound={bound}: must be > 0, or None')
    first = 0 if last is None else scores.size(0) - last
    if not 0 <= first <= scores.size(0):
        raise ValueError(f'last={last}: there are {scores.size(0)} rows')
    dtype = torch.promote_types(scores.dtype, torch.float32)
    absent = None if mask is None else ~mask[:, None]
    with torch.autocast(scores.device.type, enabled=False):
        if bound is None or 2 * bound / epsilon > MAX_RANGE:
            return _by_logarithms(
                scores.to(dtype) / epsilon, iterations, absent, first
            )
        scores = scores.to(dtype)
        kernel = torch.add(
            scores.new_full((), -bound / epsilon),
            scores,
            alpha=1 / epsilon,
            out=scores if overwrite else None,
        )
        return _by_factors(kernel.exp_(), iterations, absent, first)
