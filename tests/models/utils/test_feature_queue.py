import pytest
import torch
from mmengine import dist
from torch.utils._python_dispatch import TorchDispatchMode

from mmssd.models.utils.feature_queue import FeatureQueue


def rows(first, count, dim=2):
    """Rows that all hold their number: ``first``, ``first + 1``, ..."""
    return torch.arange(first, first + count).float()[:, None].repeat(1, dim)


def numbers(queue):
    return queue.features[:, 0].tolist()


def test_unit_rows_at_birth():
    queue = FeatureQueue(dim=8, length=500)
    assert queue.features.shape == (500, 8)
    assert queue.length == 500
    torch.testing.assert_close(queue.features.norm(dim=1), torch.ones(500))
    # directions are uniform: mean 0, covariance 1 / D
    assert queue.features.mean(0).abs().max() < 0.06
    covariance = queue.features.t() @ queue.features / 500
    assert (covariance - torch.eye(8) / 8).abs().max() < 0.03
    assert queue.pointer.item() == 0


def test_other_inits():
    assert not FeatureQueue(4, 6, init='zeros').features.any()
    uniform = FeatureQueue(dim=12, length=5000, init='uniform').features
    # U(-a, a) with a = 1 / sqrt(D / 3) = 1 / 2: variance a^2 / 3 = 1 / D,
    # so the expected squared length of a row is 1
    assert 0.499 < uniform.abs().max() <= 0.5
    assert abs(uniform.pow(2).sum(1).mean() - 1) < 0.02


def test_nothing_is_trained():
    queue = FeatureQueue(2, 3)
    assert not list(queue.parameters())
    x = torch.ones(2, 2, requires_grad=True)
    queue.enqueue(x * 2)
    assert not queue.features.requires_grad
    assert sorted(queue.state_dict()) == ['features', 'pointer']


def test_wraps_around_when_the_batch_does_not_divide_the_length():
    queue = FeatureQueue(2, 5, init='zeros')
    queue.enqueue(rows(1, 3))
    assert numbers(queue) == [1, 2, 3, 0, 0]
    queue.enqueue(rows(4, 3))  # two at the end, one at the start
    assert numbers(queue) == [6, 2, 3, 4, 5]
    assert queue.pointer.item() == 1
    queue.enqueue(rows(7, 4))
    assert numbers(queue) == [6, 7, 8, 9, 10]
    assert queue.pointer.item() == 0


@pytest.mark.parametrize('length', [1, 2, 3, 5, 8])
@pytest.mark.parametrize('batches', [(1, 1, 1), (3, 3, 3), (4, 7, 1, 13, 2)])
def test_keeps_the_last_rows(length, batches):
    queue = FeatureQueue(2, length, init='zeros')
    written = []
    for size in batches:
        queue.enqueue(rows(len(written) + 1, size))
        written += range(len(written) + 1, len(written) + size + 1)
        held = sorted(number for number in numbers(queue) if number)
        assert held == written[-length:]
    # the next row takes the place of the oldest one
    queue.enqueue(rows(1000, 1))
    held = [number for number in numbers(queue) if number]
    assert sorted(held) == [*written, 1000][-length:]


def test_batch_longer_than_the_queue():
    queue = FeatureQueue(2, 3, init='zeros')
    queue.enqueue(rows(1, 1))
    queue.enqueue(rows(2, 7))  # 2 ... 8, of which 6, 7, 8 stay
    assert sorted(numbers(queue)) == [6, 7, 8]
    queue.enqueue(rows(9, 1))
    assert sorted(numbers(queue)) == [7, 8, 9]


class Written(TorchDispatchMode):
    """Collects the row indices of writes."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ == 'index_copy_':
            self.rows.append(args[2].tolist())
        return function(*args, **(kwargs or {}))


def test_no_row_is_written_twice_at_once():
    # on a GPU the winner of two writes to one row is undefined
    queue = FeatureQueue(2, 3)
    queue.enqueue(rows(1, 2))
    with Written() as written:
        queue.enqueue(rows(3, 8))
    assert [sorted(indices) for indices in written.rows] == [[0, 1, 2]]


def test_empty_batch_changes_nothing():
    queue = FeatureQueue(2, 3)
    before = queue.features.clone()
    queue.enqueue(torch.empty(0, 2))
    assert torch.equal(queue.features, before)
    assert queue.pointer.item() == 0


def test_rows_are_copied_and_cast():
    queue = FeatureQueue(2, 2, init='zeros')
    x = rows(1, 2).double()
    queue.enqueue(x)
    x.zero_()
    assert numbers(queue) == [1, 2]
    assert queue.features.dtype == torch.float32


def test_state_dict_round_trip():
    queue = FeatureQueue(2, 5)
    queue.enqueue(rows(1, 7))
    other = FeatureQueue(2, 5)
    other.load_state_dict(queue.state_dict())
    for continued in (queue, other):
        continued.enqueue(rows(8, 2))
    assert torch.equal(other.features, queue.features)
    assert torch.equal(other.pointer, queue.pointer)
    assert sorted(numbers(other)) == [5, 6, 7, 8, 9]


def test_a_state_of_another_length_is_refused():
    state = FeatureQueue(2, 5).state_dict()
    with pytest.raises(RuntimeError, match='size mismatch'):
        FeatureQueue(2, 6).load_state_dict(state)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(dim=0, length=3), '3 rows of width 0'),
        (dict(dim=2, length=0), '0 rows of width 2'),
        (dict(dim=2, length=3, init='ones'), "init='ones': must be one of"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        FeatureQueue(**kwargs)


@pytest.mark.parametrize('shape', [(3, 4), (2,), (1, 2, 2)])
def test_rows_of_another_shape(shape):
    with pytest.raises(ValueError, match='into a queue of rows of width 2'):
        FeatureQueue(2, 3).enqueue(torch.zeros(shape))


def filled(length, sizes):
    """Run on a worker: rank r writes rows 100 r, 100 r + 1, ..."""
    queue = FeatureQueue(2, length, init='zeros')
    written = 0
    for size in sizes:
        queue.enqueue(rows(100 * dist.get_rank() + written, size))
        written += size
    return numbers(queue), queue.pointer.item()


@pytest.mark.dist
def test_two_processes_write_in_rank_order(two_processes):
    first, second = two_processes(filled, 5, (2, 2))
    # 0 1 | 100 101, then 2 | 3 102 103 from the start on
    assert first == ([3, 102, 103, 101, 2], 3) == second


@pytest.mark.dist
def test_two_processes_with_more_rows_than_the_queue_holds(two_processes):
    first, second = two_processes(filled, 3, (2,))
    assert first == second
    assert sorted(first[0]) == [1, 100, 101]
