import pytest
import torch
from mmengine import dist
from torch import nn

from mmssd.models.distillers.momentum import MomentumStudent
from mmssd.models.utils.collectives import draw_permutation, shuffle_rows
from mmssd.models.utils.plan import SetupError
from mmssd.models.utils.step import Encodings


class Student(nn.Module):
    def __init__(self, neck=True):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.neck = nn.Linear(4, 2) if neck else None


def fill(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def test_starts_as_a_copy_without_gradient():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck)
    assert momentum.decay == 0.999
    for own, other in zip(
        momentum.state_dict().values(),
        student.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(own, other)
        assert own.data_ptr() != other.data_ptr()
    assert not any(p.requires_grad for p in momentum.parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_update_by_hand():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0.75)
    fill(momentum, 1.0)
    fill(student, 3.0)
    momentum.update(student)  # 0.75 * 1 + 0.25 * 3 = 1.5
    for parameter in momentum.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1.5))
    momentum.update(student)  # 0.75 * 1.5 + 0.25 * 3 = 1.875
    for parameter in momentum.parameters():
        torch.testing.assert_close(
            parameter, torch.full_like(parameter, 1.875)
        )
    assert all((p == 3).all() for p in student.parameters())


def test_small_steps_are_not_lost():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0.999)
    fill(momentum, 0.0)
    fill(student, 1.0)
    for _ in range(1000):
        momentum.update(student)
    expected = 1 - 0.999**1000
    for parameter in momentum.parameters():
        torch.testing.assert_close(
            parameter, torch.full_like(parameter, expected), rtol=1e-4, atol=0
        )


def test_decay_of_zero_copies_the_parameters():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0)
    fill(student, 2.5)
    momentum.update(student)
    assert all((p == 2.5).all() for p in momentum.parameters())


def test_statistics_are_its_own():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0.5)
    student.backbone(torch.randn(8, 3) + 5)
    before = momentum.backbone[1].running_mean.clone()
    momentum.update(student)
    assert torch.equal(momentum.backbone[1].running_mean, before)
    assert momentum.backbone[1].num_batches_tracked == 0
    momentum.backbone(torch.randn(8, 3) - 5)
    assert not torch.equal(momentum.backbone[1].running_mean, before)


def test_copy_from_takes_the_buffers_too():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck)
    student.backbone(torch.randn(8, 3) + 5)
    fill(student, 0.25)
    momentum.copy_from(student)
    for own, other in zip(
        momentum.state_dict().values(),
        student.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(own, other)
    assert not any(p.requires_grad for p in momentum.parameters())


def test_a_schedule_by_hand():
    momentum = MomentumStudent(nn.Linear(1, 1), decay=0.996, final_decay=1.0)
    for progress, expected in (
        (0.0, 0.996),
        (0.5, 0.998),
        (1 / 3, 0.997),  # 1 - 0.004 (1 + 1/2) / 2
        (1.0, 1.0),
    ):
        assert momentum.decay_at(progress) == pytest.approx(expected)
    assert MomentumStudent(nn.Linear(1, 1), decay=0.9).decay_at() == 0.9
    with pytest.raises(SetupError, match=r'final_decay=1\.0 .* runner only'):
        momentum.decay_at(None)


def test_update_follows_the_schedule():
    student = Student()
    momentum = MomentumStudent(
        student.backbone, student.neck, decay=0.5, final_decay=1.0
    )
    fill(momentum, 1.0)
    fill(student, 3.0)
    momentum.update(student, 0.5)  # 0.75 * 1 + 0.25 * 3
    assert all((p == 1.5).all() for p in momentum.parameters())
    momentum.update(student, 1.0)
    assert all((p == 1.5).all() for p in momentum.parameters())


def test_layers_of_heads_follow_too():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck, decay=0.75)
    average, source = nn.Linear(2, 2), nn.Linear(2, 2)
    fill(average, 1.0)
    fill(source, 3.0)
    momentum.update(student, others=[(average, source)])
    assert all((p == 1.5).all() for p in average.parameters())
    momentum.copy_from(student, [(average, source)])
    assert all((p == 3).all() for p in average.parameters())


@pytest.mark.parametrize('final_decay', [0.4, 1.1, float('nan')])
def test_final_decay_out_of_range(final_decay):
    with pytest.raises(ValueError, match=f'final_decay={final_decay} .*0.5'):
        MomentumStudent(nn.Linear(1, 1), decay=0.5, final_decay=final_decay)


def test_only_batch_norms_know_a_mode():
    student = Student()
    student.neck = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 2))
    momentum = MomentumStudent(student.backbone, student.neck)
    for mode in (True, False):
        momentum.train(mode)
        assert momentum.training == momentum.backbone[1].training == mode
        assert not momentum.neck[0].training
    assert MomentumStudent(student.backbone).backbone[1].training


def test_without_a_neck():
    student = Student(neck=False)
    momentum = MomentumStudent(student.backbone, decay=0.5)
    assert momentum.neck is None
    fill(momentum, 0.0)
    fill(student, 1.0)
    momentum.update(student)
    assert all((p == 0.5).all() for p in momentum.parameters())


def test_init_weights_leaves_it_alone():
    student = Student()
    momentum = MomentumStudent(student.backbone, student.neck)
    fill(momentum, 7.0)
    momentum.init_weights()
    assert all((p == 7).all() for p in momentum.parameters())


@pytest.mark.parametrize('decay', [-0.1, 1.0, float('nan')])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=f'decay={decay} .* in \\[0, 1\\)'):
        MomentumStudent(nn.Linear(1, 1), decay=decay)


# --- shuffled batch norm ----------------------------------------------------


def norm_of_a_share(rows, mode):
    """Run on a worker (or alone): keys of a share of rows by batch norm."""
    norm = dict(sync=nn.SyncBatchNorm, none=nn.LayerNorm).get(
        mode, nn.BatchNorm1d
    )
    momentum = MomentumStudent(norm(rows.size(1)).double())
    momentum.shuffle = mode != 'off'
    momentum.train(mode != 'evaluation')
    share = rows.tensor_split(dist.get_world_size())[dist.get_rank()]
    seen = []

    def run(views):
        seen.extend(views)
        outputs = views
        if mode != 'sync':  # which needs a GPU
            outputs = [momentum.backbone(view) for view in views]
        return Encodings(embeddings=outputs, feature_maps=[tuple(outputs)])

    torch.manual_seed(9)
    encodings = momentum.encode([share, share + 1], run)
    assert torch.equal(encodings.embeddings[1], encodings.feature_maps[0][1])
    torch.manual_seed(9)
    order = draw_permutation(len(share), 'cpu')
    return share, seen, encodings.embeddings, order


@pytest.mark.dist
def test_keys_are_encoded_in_foreign_batches_and_come_home(two_processes):
    rows = torch.randn(8, 3, dtype=torch.float64)
    answers = two_processes(norm_of_a_share, rows, 'on')
    orders = [order for *_, order in answers]
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0].sort().values, torch.arange(8))
    assert not torch.equal(orders[0], torch.arange(8))
    batches = rows[orders[0]].chunk(2)
    expected = torch.empty_like(rows)
    for batch, places in zip(batches, orders[0].chunk(2), strict=True):
        variance = batch.var(dim=0, unbiased=False)
        expected[places] = (batch - batch.mean(0)) / (variance + 1e-5).sqrt()
    for rank, (_, seen, keys, _) in enumerate(answers):
        # both views of an image move together
        assert torch.equal(seen[0], batches[rank])
        assert torch.equal(seen[1], batches[rank] + 1)
        for key in keys:  # a constant does not change what batch norm gives
            torch.testing.assert_close(key, expected.chunk(2)[rank])


@pytest.mark.dist
@pytest.mark.parametrize('mode', ['off', 'evaluation', 'none', 'sync'])
def test_images_stay_where_shuffling_would_not_matter(two_processes, mode):
    rows = torch.randn(8, 3, dtype=torch.float64)
    for share, seen, _, _ in two_processes(norm_of_a_share, rows, mode):
        assert torch.equal(seen[0], share)


def test_one_process_has_nothing_to_shuffle():
    rows = torch.randn(8, 3, dtype=torch.float64)
    share, seen, keys, order = norm_of_a_share(rows, 'on')
    assert torch.equal(seen[0], rows) and torch.equal(share, rows)
    assert torch.equal(shuffle_rows(rows, order), rows)
    # any order of the same images gives the same keys, but for rounding
    norm = nn.BatchNorm1d(3).double()
    shuffled = norm(rows[order])[order.argsort()]
    torch.testing.assert_close(shuffled, keys[0])
