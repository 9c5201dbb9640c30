"""Exchange between processes: what comes back, and with what gradient."""

import pytest
import torch
from mmengine import dist
from torch import nn

from mmssd.models.utils.collectives import (
    draw_permutation,
    gather_rows,
    mean_over_processes,
    shuffle_rows,
    unshuffle_rows,
)


def share_of(rows):
    return rows.tensor_split(dist.get_world_size())[dist.get_rank()]


def round_trip(rows):
    """Run on a worker (or alone)."""
    torch.manual_seed(dist.get_rank())  # each draws another permutation
    share = share_of(rows)
    order = draw_permutation(len(share), share.device)
    shuffled = shuffle_rows(share, order)
    return share, order, shuffled, unshuffle_rows(shuffled, order)


@pytest.mark.dist
@pytest.mark.parametrize('last', [False, True])
def test_round_trip_over_two_processes(two_processes, last):
    rows = torch.arange(6 * 2 * 3 * 3.0).view(6, 2, 3, 3)
    if last:
        rows = rows.contiguous(memory_format=torch.channels_last)
    (a, order_a, left, home_a), (b, order_b, right, home_b) = two_processes(
        round_trip, rows
    )
    assert torch.equal(order_a, order_b)  # that of rank 0
    torch.manual_seed(0)
    assert torch.equal(order_a, torch.randperm(6))
    assert torch.equal(torch.cat([left, right]), rows[order_a])
    assert torch.equal(home_a, a) and torch.equal(home_b, b)
    assert (
        left.is_contiguous(memory_format=torch.channels_last)
        if last
        else left.is_contiguous()
    )


def test_one_process_keeps_its_rows():
    rows = torch.randn(4, 2, requires_grad=True)
    share, order, shuffled, home = round_trip(rows)
    assert torch.equal(order.sort().values, torch.arange(4))
    assert torch.equal(shuffled, rows) and torch.equal(home, share)
    assert gather_rows(rows) is rows
    assert torch.equal(mean_over_processes(rows), rows)
    assert not mean_over_processes(rows).requires_grad


def similarity_gradient(rows, weight):
    """Gradient of a mean over own rows of products with all rows."""
    layer = nn.Linear(3, 2, bias=False).double()
    layer.weight.data.copy_(weight)
    own = layer(share_of(rows))
    everything = gather_rows(own)
    (own @ everything.t()).square().sum(1).mean().backward()
    gradient = layer.weight.grad
    return everything.detach(), mean_over_processes(gradient)


@pytest.mark.dist
def test_gathered_rows_carry_their_gradient(two_processes):
    rows = torch.randn(6, 3, dtype=torch.float64)
    weight = torch.randn(2, 3, dtype=torch.float64)
    alone = similarity_gradient(rows, weight)
    for everything, gradient in two_processes(
        similarity_gradient, rows, weight
    ):
        torch.testing.assert_close(everything, alone[0])
        torch.testing.assert_close(gradient, alone[1])


def own_mean(rows):
    return mean_over_processes(share_of(rows).mean(0)), share_of(rows)


@pytest.mark.dist
def test_mean_over_two_processes(two_processes):
    rows = torch.randn(6, 3, dtype=torch.float64)
    for mean, share in two_processes(own_mean, rows):
        torch.testing.assert_close(mean, rows.mean(0))
        assert not torch.equal(share.mean(0), mean)
