"""SEED's and CompRess' heads: what is compared, what enters when."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.distillers.distiller import Distiller
from mmssd.models.heads.similarity_queue_head import SimilarityQueueHead
from mmssd.models.losses import compress, similarity_distillation
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.step import Encodings, Step

N, D, K = 3, 4, 8


def encodings(count, width=D, field='embeddings', seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    rows = [
        torch.randn(N, width, generator=generator).requires_grad_(grad)
        for _ in range(count)
    ]
    return Encodings(**{field: rows})


def seed_step(views=1, num_global=1, seed=0):
    return Step(
        student=encodings(views, seed=seed, grad=True),
        teacher=encodings(views, seed=seed + 100),
        num_global=num_global,
    )


def unit(rows):
    return F.normalize(rows, dim=1)


# --- SEED -------------------------------------------------------------------


def test_defaults_are_those_of_the_papers():
    head = SimilarityQueueHead()
    assert (head.student_temperature, head.teacher_temperature) == (0.2, 0.01)
    assert head.queue.features.shape == (65536, 128)
    norms = head.queue.features.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(65536))
    head = SimilarityQueueHead(
        16, 32, 'compress', student_queue='momentum', student_dim=4
    )
    assert head.student_temperature == head.teacher_temperature == 0.04
    # CompRess: uniform, not normalised
    assert head.queue.features.abs().max() <= (3 / 16) ** 0.5
    assert head.student_queue.features.shape == (32, 4)


def test_the_queue_is_read_before_it_is_written():
    head = SimilarityQueueHead(D, K)
    before = head.queue.features.clone()
    step = seed_step()
    (s,), (t,) = step.student.embeddings, step.teacher.embeddings
    loss = head.loss(step)
    assert list(loss) == ['loss_similarity']
    expected = similarity_distillation(s, t, before)
    torch.testing.assert_close(loss['loss_similarity'], expected)
    torch.testing.assert_close(head.queue.features[:N], unit(t))
    torch.testing.assert_close(head.queue.features[N:], before[N:])
    # the second step sees the first one's rows, and wraps round at last
    seen = [unit(t)]
    for number in (1, 2):
        step = seed_step(seed=number)
        queue = head.queue.features.clone()
        expected = similarity_distillation(
            step.student.embeddings[0], step.teacher.embeddings[0], queue
        )
        torch.testing.assert_close(
            head.loss(step)['loss_similarity'], expected
        )
        seen.append(unit(step.teacher.embeddings[0]))
    rows = torch.cat(seen)  # 9 rows into a queue of 8
    torch.testing.assert_close(
        head.queue.features, torch.cat([rows[8:], rows[1:8]])
    )
    assert int(head.queue.pointer) == 1


def test_float64_stays_float64():
    """A queue in float64 holds what was not rounded on the way."""
    head = SimilarityQueueHead(D, K).double()
    generator = torch.Generator().manual_seed(3)
    s, t = torch.randn(2, N, D, generator=generator, dtype=torch.float64)
    step = Step(
        student=Encodings(embeddings=[s]), teacher=Encodings(embeddings=[t])
    )
    assert head.loss(step)['loss_similarity'].dtype == torch.float64
    torch.testing.assert_close(
        head.queue.features[:N], unit(t), rtol=0, atol=1e-15
    )


def test_evaluation_leaves_the_queue_alone():
    head = SimilarityQueueHead(D, K).eval()
    before = head.queue.features.clone()
    head.loss(seed_step())
    assert torch.equal(head.queue.features, before)


def test_small_patches_have_a_queue_of_their_own():
    head = SimilarityQueueHead(D, K, small_patches=True)
    big, small = head.queue.features.clone(), head.small_queue.features.clone()
    assert not torch.equal(big, small)
    step = seed_step(views=4)  # one global crop, three patches
    s, t = step.student.embeddings, step.teacher.embeddings
    terms = head.loss(step)
    torch.testing.assert_close(
        terms['loss_similarity'], similarity_distillation(s[0], t[0], big)
    )
    # mean over 3N rows, each against the teacher's row of the same patch
    expected = sum(
        similarity_distillation(s[v], t[v], small) for v in (1, 2, 3)
    )
    torch.testing.assert_close(terms['loss_small'], expected / 3)
    torch.testing.assert_close(head.small_queue.features[:N], unit(t[1]))
    assert int(head.small_queue.pointer) == int(head.queue.pointer) == N


def test_several_global_crops_share_one_place_in_the_queue():
    head = SimilarityQueueHead(D, K, weight=0.5)
    before = head.queue.features.clone()
    step = seed_step(views=2, num_global=2)
    s, t = step.student.embeddings, step.teacher.embeddings
    loss = head.loss(step)['loss_similarity']
    expected = sum(similarity_distillation(s[v], t[v], before) for v in (0, 1))
    torch.testing.assert_close(loss, 0.5 * expected / 2)
    torch.testing.assert_close(head.queue.features[:N], unit(t[0]))
    assert int(head.queue.pointer) == N


def test_the_queue_is_in_the_checkpoint():
    head = SimilarityQueueHead(D, K, small_patches=True)
    head.loss(seed_step(views=3))
    other = SimilarityQueueHead(D, K, small_patches=True)
    other.load_state_dict(head.state_dict())
    step = seed_step(views=3, seed=5)
    first, second = head.loss(step), other.loss(step)
    assert first == second
    assert torch.equal(head.queue.features, other.queue.features)


# --- CompRess ---------------------------------------------------------------


def compress_step(seed=0):
    return Step(
        student=encodings(1, 3, 'features', seed, grad=True),
        teacher=encodings(1, D, 'features', seed + 100),
        momentum=encodings(1, 3, 'features', seed + 200),
        num_global=1,
    )


@pytest.mark.parametrize('whose', ['momentum', 'student'])
def test_two_queues_hold_the_same_images(whose):
    head = SimilarityQueueHead(
        D, K, 'compress', student_queue=whose, student_dim=3
    )
    own, theirs = (
        q.features.clone() for q in (head.student_queue, head.queue)
    )
    step = compress_step()
    loss = head.loss(step)['loss_similarity']
    expected = compress(
        step.student.features[0], step.teacher.features[0], own, theirs
    )
    torch.testing.assert_close(loss, expected)
    stored = getattr(step, whose).features[0].detach()
    torch.testing.assert_close(head.student_queue.features[:N], unit(stored))
    torch.testing.assert_close(
        head.queue.features[:N], unit(step.teacher.features[0])
    )
    assert bool(head.needs.momentum) == (whose == 'momentum')
    assert not head.student_queue.features.requires_grad


def test_one_queue_and_a_map_of_the_head():
    head = SimilarityQueueHead(D, K, 'compress', student_dim=3)
    assert isinstance(head.projector, nn.Linear)
    before = head.queue.features.clone()
    step = compress_step()
    loss = head.loss(step)['loss_similarity']
    mapped = head.projector(step.student.features[0])
    expected = compress(mapped, step.teacher.features[0], before, before)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert head.projector.weight.grad.abs().sum() > 0
    assert step.student.features[0].grad.abs().sum() > 0


# --- in a distiller, and bad input ------------------------------------------


def test_in_a_distiller():
    backbone = dict(
        type='mmpretrain.ResNet_CIFAR',
        depth=18,
        stem_channels=8,
        base_channels=8,
    )
    neck = dict(
        type='mmpretrain.DropoutProjectionNeck',
        in_channels=64,
        hid_channels=16,
        out_channels=D,
    )
    model = Distiller(
        backbone,
        neck,
        dict(
            similarity=dict(
                type='mmpretrain.SimilarityQueueHead',
                embed_dim=D,
                queue_length=K,
            )
        ),
        teacher=dict(
            type='mmpretrain.Teacher',
            backbone=backbone,
            neck=neck,
            checkpoint='random',
        ),
    )
    model.check(TrainingPlan(batch=2, max_iters=9, epoch_length=3))
    terms = model.loss([torch.randn(2, 3, 16, 16)])
    terms['similarity.loss_similarity'].backward()
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.teacher.parameters())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(objective='other'), "objective='other'"),
        (dict(student_temperature=0.0), 'student_temperature=0.0'),
        (dict(teacher_temperature=-1.0), 'teacher_temperature=-1.0'),
        (dict(student_queue='nobody'), "student_queue='nobody'"),
        (dict(student_queue='momentum'), "are of objective='compress'"),
        (dict(student_dim=5), "are of objective='compress'"),
        (dict(weight=-1.0), 'weight=-1.0'),
        (dict(objective='compress'), 'set student_dim and embed_dim'),
        (
            dict(objective='compress', student_dim=4, small_patches=True),
            "small_patches is of objective='seed'",
        ),
        (
            dict(objective='compress', student_dim=4, teacher_temperature=0.1),
            'CompRess has one temperature',
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as info:
        MODELS.build(
            dict(
                type='mmpretrain.SimilarityQueueHead',
                queue_length=K,
                **arguments,
            )
        )
    assert message in str(info.value)


def test_bad_steps():
    with pytest.raises(SetupError, match='queue_length=2 .* batch of 3'):
        SimilarityQueueHead(D, 2).loss(seed_step())
    with pytest.raises(SetupError, match='queue_length=2 .* batch of 5'):
        SimilarityQueueHead(D, 2).check(
            TrainingPlan(batch=5, max_iters=9, epoch_length=3)
        )
    with pytest.raises(SetupError, match='queue_length=9 .* batch of 10'):
        SimilarityQueueHead(D, 9).check(
            TrainingPlan(batch=5, max_iters=9, epoch_length=3, accumulation=2)
        )
    with pytest.raises(SetupError, match='all views are of one size'):
        SimilarityQueueHead(D, K, small_patches=True).loss(seed_step())
    with pytest.raises(SetupError, match='embed_dim=5 .* have width 4'):
        SimilarityQueueHead(5, K).loss(seed_step())
    head = SimilarityQueueHead(D, K, 'compress', student_dim=2)
    with pytest.raises(SetupError, match='student_dim=2 .* have width 3'):
        head.loss(compress_step())


def test_first_view_alone():
    head = SimilarityQueueHead(D, K, views='first')
    assert head.needs.student_views == head.needs.teacher_views == (0,)
    before = head.queue.features.clone()
    step = seed_step(views=2, num_global=2)
    loss = head.loss(step)['loss_similarity']
    expected = similarity_distillation(
        step.student.embeddings[0], step.teacher.embeddings[0], before
    )
    torch.testing.assert_close(loss, expected)
    with pytest.raises(ValueError, match="views='second'"):
        SimilarityQueueHead(D, K, views='second')
    with pytest.raises(ValueError, match='no small patches'):
        SimilarityQueueHead(D, K, views='first', small_patches=True)
