import decimal
from decimal import Decimal

import pytest
import torch
import torch.nn.functional as F
from mmengine import dist
from mmpretrain.models.losses.swav_loss import distributed_sinkhorn

from mmssd.models.utils.sinkhorn import sinkhorn


def slow_codes(scores, epsilon, iterations):
    """The definition, entry by entry, with numbers of unbounded range."""
    with decimal.localcontext(prec=40):
        q = [
            [(Decimal(s) / Decimal(epsilon)).exp() for s in row]
            for row in scores.double().tolist()
        ]
        rows, columns = range(len(q)), range(len(q[0]))
        for _ in range(iterations):
            for k in columns:
                total = sum(q[b][k] for b in rows)
                for b in rows:
                    q[b][k] /= total
            for b in rows:
                total = sum(q[b])
                q[b] = [entry / total for entry in q[b]]
        codes = [[float(entry) for entry in row] for row in q]
    return torch.tensor(codes, dtype=torch.float64)


def cosines(rows, prototypes, dim=6):
    z = F.normalize(torch.randn(rows, dim), dim=1)
    return z @ F.normalize(torch.randn(prototypes, dim), dim=1).t()


def test_by_hand():
    # exp(S) = [[3, 1], [1, 1]], column sums 4 and 2
    #   -> [[3/4, 1/2], [1/4, 1/2]], row sums 5/4 and 3/4
    #   -> [[3/5, 2/5], [1/3, 2/3]]
    # second round, column sums 14/15 and 16/15
    #   -> [[9/14, 3/8], [5/14, 5/8]], row sums 57/56 and 55/56
    #   -> [[12/19, 7/19], [4/11, 7/11]]
    scores = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log()
    first = torch.tensor([[3 / 5, 2 / 5], [1 / 3, 2 / 3]])
    second = torch.tensor([[12 / 19, 7 / 19], [4 / 11, 7 / 11]])
    torch.testing.assert_close(sinkhorn(scores, 1.0, 1), first)
    torch.testing.assert_close(sinkhorn(scores, 1.0, 2), second)
    # the weight divides the scores
    torch.testing.assert_close(sinkhorn(0.05 * scores, 0.05, 2), second)


@pytest.mark.parametrize('epsilon', [0.05, 0.3])
@pytest.mark.parametrize('iterations', [1, 3, 7])
@pytest.mark.parametrize('bound', [None, 1, 1.2])
def test_equals_the_definition(epsilon, iterations, bound):
    scores = cosines(9, 5)
    expected = slow_codes(scores, epsilon, iterations)
    codes = sinkhorn(scores.double(), epsilon, iterations, bound=bound)
    assert codes.dtype == torch.float64
    torch.testing.assert_close(codes, expected, rtol=1e-12, atol=1e-14)
    codes = sinkhorn(scores, epsilon, iterations, bound=bound)
    assert codes.dtype == torch.float32
    torch.testing.assert_close(codes.double(), expected, rtol=2e-5, atol=1e-7)


def test_defaults_are_those_of_swav():
    scores = cosines(8, 4)
    assert torch.equal(sinkhorn(scores), sinkhorn(scores, 0.05, 3))


def test_rows_sum_to_one_and_columns_tend_to_equal_mass():
    scores = cosines(64, 8, dim=16)
    codes = sinkhorn(scores.double(), iterations=500)
    torch.testing.assert_close(codes.sum(1), torch.ones(64).double())
    torch.testing.assert_close(
        codes.sum(0), torch.full((8,), 64 / 8).double(), rtol=1e-4, atol=0
    )
    rounds = [
        (sinkhorn(scores, iterations=n).sum(0) - 8).abs().max()
        for n in (1, 3, 10)
    ]
    assert rounds[0] > rounds[1] > rounds[2]


def test_equals_mmpretrain_on_one_process():
    scores = cosines(32, 10)
    expected = distributed_sinkhorn(scores.clone(), 3, 1, 0.05)
    torch.testing.assert_close(
        sinkhorn(scores), expected, rtol=1e-4, atol=1e-7
    )


def test_scores_whose_exponentials_overflow():
    # exp(10 / 0.01) = 1e434: beyond float16, float32 and float64
    scores = 10 * cosines(7, 4)
    assert (scores / 0.01).exp().isinf().any()
    codes = sinkhorn(scores, epsilon=0.01)
    expected = slow_codes(scores, 0.01, 3)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(codes.double(), expected, rtol=1e-3, atol=1e-6)
    wide = sinkhorn(scores.double(), epsilon=0.01)
    torch.testing.assert_close(wide, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize('iterations', [1, 3, 500])
@pytest.mark.parametrize('rows', [2, 9, 40])
def test_factors_hold_the_whole_range_of_cosines(rows, iterations):
    """All but some at the far end: exp(-2 / 0.04) = 2e-22 of the others."""
    scores = torch.full((rows, 9), -1.0)
    scores[0, :4] = 1
    scores[1, 2] = 1
    scores[-1, 7:] = 0.5
    codes = sinkhorn(scores, 0.04, iterations, bound=1)
    assert torch.isfinite(codes).all()
    torch.testing.assert_close(
        codes.double(),
        sinkhorn(scores.double(), 0.04, iterations),
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_tiny_epsilon_goes_by_logarithms():
    scores = cosines(7, 4)
    codes = sinkhorn(scores, epsilon=0.005, bound=1)
    assert torch.equal(codes, sinkhorn(scores, epsilon=0.005))
    # exp(-2 / 0.005) is no float32
    torch.testing.assert_close(
        codes.double(), slow_codes(scores, 0.005, 3), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize('bound', [None, 1])
def test_half_precision_scores(bound):
    scores = cosines(7, 4)
    for dtype in (torch.float16, torch.bfloat16):
        given = scores.to(dtype)
        # exp(1 / 0.05) = 4.9e8 overflows float16
        codes = sinkhorn(given, bound=bound)
        assert codes.dtype == torch.float32
        assert torch.equal(codes, sinkhorn(given.float(), bound=bound))
        expected = slow_codes(given, 0.05, 3)
        torch.testing.assert_close(
            codes.double(), expected, rtol=2e-5, atol=1e-7
        )


@pytest.mark.parametrize('bound', [None, 1])
def test_autocast_does_not_lower_the_precision(bound):
    scores = cosines(7, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        codes = sinkhorn(scores, bound=bound)
    assert torch.equal(codes, sinkhorn(scores, bound=bound))


def test_rows_far_below_the_others():
    # exp(-300) is zero in float32: the row must not vanish nor give NaN
    scores = cosines(6, 4)
    scores[2] -= 15.0
    codes = sinkhorn(scores)
    torch.testing.assert_close(
        codes.double(), slow_codes(scores, 0.05, 3), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(codes.sum(1), torch.ones(6))
    # a column far below the others keeps its share of mass
    scores = cosines(6, 4)
    scores[:, 1] -= 15.0
    torch.testing.assert_close(
        sinkhorn(scores).double(),
        slow_codes(scores, 0.05, 3),
        rtol=1e-4,
        atol=1e-6,
    )


def test_a_row_maximum_is_no_constant():
    # one constant for all rows changes nothing, one for each row does
    scores = cosines(6, 4).double()
    torch.testing.assert_close(sinkhorn(scores + 3), sinkhorn(scores))
    shifted = scores - scores.amax(1, keepdim=True)
    assert (sinkhorn(shifted) - sinkhorn(scores)).abs().max() > 1e-3


def test_order_of_rows_and_prototypes_is_immaterial():
    scores = cosines(12, 5).double()
    rows, columns = torch.randperm(12), torch.randperm(5)
    codes = sinkhorn(scores)
    torch.testing.assert_close(sinkhorn(scores[rows]), codes[rows])
    torch.testing.assert_close(sinkhorn(scores[:, columns]), codes[:, columns])


@pytest.mark.parametrize('bound', [None, 1])
@pytest.mark.parametrize('junk', [0.0, 1e4, -1e4, float('nan')])
def test_masked_rows_are_absent(junk, bound):
    scores = cosines(9, 5)
    mask = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 0]).bool()
    scores[~mask] = junk
    codes = sinkhorn(scores, mask=mask, bound=bound)
    torch.testing.assert_close(codes[mask], sinkhorn(scores[mask]))
    assert torch.equal(codes[~mask], torch.zeros(3, 5))


@pytest.mark.parametrize('bound', [None, 1])
def test_masks_of_all_and_of_nothing(bound):
    scores = cosines(4, 3)
    every = torch.ones(4, dtype=torch.bool)
    codes = sinkhorn(scores, mask=every, bound=bound)
    assert torch.equal(codes, sinkhorn(scores, bound=bound))
    codes = sinkhorn(scores, mask=~every, bound=bound)
    assert torch.equal(codes, torch.zeros(4, 3))


@pytest.mark.parametrize('bound', [None, 1])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_no_gradient_and_no_change_of_the_input(bound, dtype):
    scores = cosines(4, 3).to(dtype).requires_grad_()
    before = scores.detach().clone()
    assert not sinkhorn(scores, bound=bound).requires_grad
    mask = torch.tensor([True, False, True, True])
    assert not sinkhorn(scores, mask=mask, bound=bound).requires_grad
    assert torch.equal(scores, before)


@pytest.mark.parametrize('bound', [None, 1])
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('last', [0, 1, 4, 9])
def test_codes_of_the_last_rows_alone(bound, masked, last):
    scores = cosines(9, 5)
    mask = torch.arange(9) % 3 > 0 if masked else None
    expected = sinkhorn(scores, mask=mask, bound=bound)[9 - last :]
    codes = sinkhorn(scores, mask=mask, bound=bound, last=last)
    assert torch.equal(codes, expected)
    # and where the scores are not needed any more
    memory = scores.data_ptr()
    codes = sinkhorn(scores, mask=mask, bound=bound, last=last, overwrite=True)
    assert torch.equal(codes, expected)
    if bound and last == 9:
        assert codes.data_ptr() == memory
    # nothing else is kept alive
    assert codes.untyped_storage().nbytes() == 4 * 5 * last


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(scores=torch.zeros(4)), r'\(4,\)'),
        (dict(scores=torch.zeros(4, 0)), 'at least one prototype'),
        (dict(epsilon=0), 'epsilon=0: must be > 0'),
        (dict(epsilon=-0.05), 'epsilon=-0.05'),
        (dict(epsilon=float('nan')), 'epsilon=nan'),
        (dict(iterations=0), 'iterations=0: must be >= 1'),
        (dict(bound=0), 'bound=0: must be > 0'),
        (dict(last=5), 'last=5: there are 4 rows'),
        (dict(last=-1), 'last=-1: there are 4 rows'),
        (dict(mask=torch.ones(3) > 0), r'mask of shape \(3,\) for 4 rows'),
    ],
)
def test_errors(kwargs, message):
    arguments = {'scores': torch.zeros(4, 2), **kwargs}
    with pytest.raises(ValueError, match=message):
        sinkhorn(**arguments)


def own_share(scores, sizes, mask=None, bound=None):
    """Run on a worker: the codes of this rank's rows."""
    rank = dist.get_rank()
    assert dist.get_world_size() == len(sizes)
    if mask is not None:
        mask = mask.split(sizes)[rank]
    return sinkhorn(scores.split(sizes)[rank], mask=mask, bound=bound)


@pytest.mark.dist
@pytest.mark.parametrize('sizes', [(6, 6), (9, 3), (12, 0)])
def test_two_processes_equal_the_joined_batch(two_processes, sizes):
    scores = cosines(12, 5).double()
    single = scores.float()
    codes = torch.cat(two_processes(own_share, single, sizes, None, 1))
    torch.testing.assert_close(codes, sinkhorn(single), rtol=1e-4, atol=1e-7)
    scores[0] -= 15.0
    codes = torch.cat(two_processes(own_share, scores, sizes))
    torch.testing.assert_close(codes, sinkhorn(scores), rtol=1e-12, atol=1e-14)
    codes = torch.cat(two_processes(own_share, scores.float(), sizes))
    torch.testing.assert_close(
        codes, sinkhorn(scores.float()), rtol=1e-4, atol=1e-7
    )


@pytest.mark.dist
@pytest.mark.parametrize('bound', [None, 1])
def test_two_processes_with_absent_rows(two_processes, bound):
    scores = cosines(12, 5).double()
    mask = torch.arange(12) > 6  # all rows of rank 0 are absent
    codes = torch.cat(two_processes(own_share, scores, (6, 6), mask, bound))
    torch.testing.assert_close(codes, sinkhorn(scores, mask=mask))
    torch.testing.assert_close(codes[mask], sinkhorn(scores[mask]))


def share_of_mmpretrain(scores):
    """Run on a worker: its codes of this rank's rows."""
    own = scores.chunk(2)[dist.get_rank()].clone()
    return distributed_sinkhorn(own, 3, dist.get_world_size(), 0.05)


@pytest.mark.dist
def test_mmpretrain_differs_in_two_processes(two_processes):
    """Its sums over images are those of one process: ours it has to be."""
    scores = cosines(12, 5).double()
    codes = torch.cat(two_processes(share_of_mmpretrain, scores))
    alone = [sinkhorn(half) for half in scores.chunk(2)]
    torch.testing.assert_close(codes, torch.cat(alone), rtol=1e-6, atol=1e-9)
    assert (codes - sinkhorn(scores)).abs().max() > 0.05
