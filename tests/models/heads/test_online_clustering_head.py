"""The clustering losses against slow references written from the papers."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.logging import MMLogger
from mmpretrain.models.losses import SwAVLoss
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.engine.optimizers.larc import LARC
from mmssd.models.heads.online_clustering_head import OnlineClusteringHead
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.step import Encodings, Step

N, D, K = 3, 5, 4  # images, embedding width, prototypes
TAU = 0.1


# --- an independent reference: loops, float64, from the equations ---------


def slow_codes(z, prototypes, queue=(), epsilon=0.05, iterations=3):
    """Codes of the rows ``z``, as lists, jointly with the queue's rows."""
    joined = [row.detach().double() for row in [*queue, *z]]
    joined = [row / row.square().sum().sqrt() for row in joined]
    q = [
        [math.exp(float(row @ c.double()) / epsilon) for c in prototypes]
        for row in joined
    ]
    for _ in range(iterations):
        for k in range(len(q[0])):
            mass = sum(row[k] for row in q)
            for row in q:
                row[k] /= mass
        q = [[entry / sum(row) for entry in row] for row in q]
    return q[len(q) - len(z) :]


def cross_entropy(a, q, prototypes, temperature=TAU):
    """l_c(a, q) of one row and one code."""
    a = a / a.square().sum().sqrt()
    scores = [(a * c).sum() / temperature for c in prototypes]
    top = max(float(s) for s in scores)
    normaliser = top + sum((s - top).exp() for s in scores).log()
    return -sum(
        weight * (s - normaliser) for weight, s in zip(q, scores, strict=True)
    )


def slow_loss(views, dropout_views, codes, prototypes):
    """Equations 2, 4 and 5 of OSS: the sum over n, and its term count."""
    total, terms = 0.0, 0
    for n in range(N):
        # eq 2: global crop 1 meets code 2 and the other way round
        for i, j in ((0, 1), (1, 0)):
            total += cross_entropy(views[j][n], codes[i][n], prototypes)
            terms += 1
        # eq 5: small crops and all dropout views meet both codes
        for i in (0, 1):
            for v in range(2, len(views)):
                total += cross_entropy(views[v][n], codes[i][n], prototypes)
                terms += 1
            for view in dropout_views:
                total += cross_entropy(view[n], codes[i][n], prototypes)
                terms += 1
    return total, terms


# --- fixtures ---------------------------------------------------------------


def encodings(num_small, dropout, dtype=torch.float32, rows=N, seed=None):
    """Raw embeddings of any length, as a projector gives them."""
    if seed is not None:
        torch.manual_seed(seed)

    def draw(count):
        return [
            (3 * torch.randn(rows, D, dtype=torch.float64))
            .to(dtype)
            .requires_grad_()
            for _ in range(count)
        ]

    views = 2 + num_small
    return Encodings(
        embeddings=draw(views), dropout_embeddings=draw(views * dropout)
    )


def make_step(num_small=2, dropout=True, dtype=torch.float32, rows=N):
    return Step(
        student=encodings(num_small, dropout, dtype, rows),
        teacher=encodings(num_small, dropout, dtype, rows),
        num_global=2,
    )


def make_head(dtype=torch.float32, **kwargs):
    kwargs = {'embed_dim': D, 'num_prototypes': K, **kwargs}
    return OnlineClusteringHead(**kwargs).to(dtype)


def double(tensors):
    return [t.detach().double().requires_grad_() for t in tensors]


def gradients(tensors):
    return [torch.zeros_like(t) if t.grad is None else t.grad for t in tensors]


def assert_all_close(actual, expected, **tolerance):
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.double(), e, **tolerance)


TOLERANCES = {
    torch.float32: dict(rtol=2e-4, atol=2e-5),
    torch.float64: dict(rtol=1e-10, atol=1e-12),
}


# --- L_T and L_S, values and gradients --------------------------------------


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
@pytest.mark.parametrize('queue', [False, True])
@pytest.mark.parametrize(
    ('num_small', 'dropout', 'count'),
    [
        (0, False, 2),
        (2, False, 6),
        (6, False, 14),
        (0, True, 6),
        (2, True, 14),
        (6, True, 30),
    ],
)
def test_equals_the_slow_reference(
    num_small, dropout, count, queue, reduction, dtype
):
    head = make_head(
        dtype,
        dropout_views=dropout,
        reduction=reduction,
        queue_length=2 * N if queue else 0,
    )
    if queue:  # two earlier batches fill it
        for _ in range(2):
            head.loss(make_step(num_small, dropout, dtype))
    stored = [q.features.clone() for q in head.queues] or [(), ()]

    step = make_step(num_small, dropout, dtype)
    terms = head.loss(step)
    assert set(terms) == {'loss_teacher', 'loss_student'}
    assert all(term.shape == () for term in terms.values())
    sum(terms.values()).backward()

    # the prototypes were normalised before use: start from there
    prototypes = head.prototypes.weight.detach().double().requires_grad_()
    codes = [
        slow_codes(step.teacher.embeddings[i], prototypes, stored[i])
        for i in (0, 1)
    ]
    for name in ('teacher', 'student'):
        network = getattr(step, name)
        views = double(network.embeddings)
        dropped = double(network.dropout_embeddings)
        total, number = slow_loss(views, dropped, codes, prototypes)
        assert number == count * N
        expected = total / number if reduction == 'mean' else total / N
        expected.backward()
        tolerance = TOLERANCES[dtype]
        assert terms[f'loss_{name}'].dtype == dtype
        assert terms[f'loss_{name}'].item() == pytest.approx(
            expected.item(), rel=tolerance['rtol'] / 10
        )
        assert_all_close(
            gradients(network.embeddings), gradients(views), **tolerance
        )
        assert_all_close(
            gradients(network.dropout_embeddings),
            gradients(dropped),
            **tolerance,
        )
    # the shared prototypes are trained by both terms
    torch.testing.assert_close(
        head.prototypes.weight.grad.double(), prototypes.grad, **tolerance
    )


def test_codes_depend_on_nothing_but_the_global_crops_of_one_network():
    head, step = make_head(dropout_views=True), make_step()
    base = head.loss(step)

    def student_loss(**changes):
        teacher = Encodings(
            embeddings=changes.get('embeddings', step.teacher.embeddings),
            dropout_embeddings=changes.get(
                'dropout', step.teacher.dropout_embeddings
            ),
        )
        changed = Step(step.student, teacher, num_global=2)
        return head.loss(changed)['loss_student']

    other = make_step().teacher
    small_changed = step.teacher.embeddings[:2] + other.embeddings[2:]
    assert torch.equal(
        student_loss(
            embeddings=small_changed, dropout=other.dropout_embeddings
        ),
        base['loss_student'],
    )
    assert not torch.equal(
        student_loss(embeddings=other.embeddings), base['loss_student']
    )


def test_three_global_crops():
    head = make_head(torch.float64, train=('student',), codes_from='student')
    step = Step(encodings(1, 0, torch.float64), num_global=3)
    loss = head.loss(step)['loss_student']
    views = step.student.embeddings
    codes = [slow_codes(view, head.prototypes.weight) for view in views]
    total = sum(
        cross_entropy(views[j][n], codes[i][n], head.prototypes.weight)
        for n in range(N)
        for i in range(3)
        for j in range(3)
        if j != i
    )
    assert loss.item() == pytest.approx(total.item() / (6 * N), rel=1e-10)


def test_weights_of_the_terms():
    torch.manual_seed(3)
    plain = make_head(dropout_views=True)
    weighted = make_head(
        dropout_views=True, weights=dict(student=0.25, teacher=2.0)
    )
    weighted.load_state_dict(plain.state_dict())
    step = make_step()
    base, terms = plain.loss(step), weighted.loss(step)
    torch.testing.assert_close(
        terms['loss_student'], 0.25 * base['loss_student']
    )
    torch.testing.assert_close(terms['loss_teacher'], 2 * base['loss_teacher'])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_computed_in_float32(dtype):
    head, step = make_head(dropout_views=True), make_step()
    for network in (step.teacher, step.student):
        for name in ('embeddings', 'dropout_embeddings'):
            rows = [t.detach().to(dtype) for t in getattr(network, name)]
            setattr(network, name, [t.requires_grad_() for t in rows])
    terms = head.loss(step)
    sum(terms.values()).backward()
    assert terms['loss_student'].dtype == torch.float32
    assert step.student.embeddings[0].grad.dtype == dtype
    full = Step(
        *(
            Encodings(
                embeddings=[t.detach().float() for t in n.embeddings],
                dropout_embeddings=[
                    t.detach().float() for t in n.dropout_embeddings
                ],
            )
            for n in (step.student, step.teacher)
        ),
        num_global=2,
    )
    expected = head.loss(full)
    for name, term in terms.items():
        # the prototypes were normalised once more
        torch.testing.assert_close(term, expected[name], rtol=1e-6, atol=0)


def test_batch_of_images_in_another_order():
    head, step = make_head(dropout_views=True), make_step()
    order = torch.randperm(N)
    shuffled = Step(
        *(
            Encodings(
                embeddings=[t[order] for t in n.embeddings],
                dropout_embeddings=[t[order] for t in n.dropout_embeddings],
            )
            for n in (step.student, step.teacher)
        ),
        num_global=2,
    )
    for a, b in zip(
        head.loss(step).values(), head.loss(shuffled).values(), strict=True
    ):
        torch.testing.assert_close(a, b)


# --- who gets gradient ------------------------------------------------------


def grads_of(term, step, head):
    step = make_step() if step is None else step
    tensors = {
        f'{network}.{field}.{v}': t
        for network in ('teacher', 'student')
        for field in ('embeddings', 'dropout_embeddings')
        for v, t in enumerate(getattr(getattr(step, network), field))
    }
    grads = torch.autograd.grad(
        head.loss(step)[term],
        [*tensors.values(), head.prototypes.weight],
        allow_unused=True,
    )
    received = {
        name
        for name, grad in zip(tensors, grads, strict=False)
        if grad is not None and grad.any()
    }
    return received, grads[-1]


@pytest.mark.parametrize(
    ('term', 'other'), [('student', 'teacher'), ('teacher', 'student')]
)
def test_a_term_trains_its_network_and_the_prototypes(term, other):
    head = make_head(dropout_views=True)
    received, prototypes = grads_of(f'loss_{term}', make_step(), head)
    assert received == {
        f'{term}.{field}.{v}'
        for field in ('embeddings', 'dropout_embeddings')
        for v in range(4)
    }
    assert not any(name.startswith(other) for name in received)
    assert prototypes.abs().sum() > 0


def test_codes_of_the_student_for_the_student():
    # SwAV: the codes come from the same embeddings, yet as constants
    head = make_head(torch.float64, codes_from='student', train=('student',))
    step = Step(encodings(0, 0, torch.float64), num_global=2)
    terms = head.loss(step)
    assert set(terms) == {'loss_student'}
    terms['loss_student'].backward()
    prototypes = head.prototypes.weight.detach()
    views = double(step.student.embeddings)
    codes = [slow_codes(view, prototypes) for view in views]
    total, _ = slow_loss(views, [], codes, prototypes)
    (total / (2 * N)).backward()
    assert_all_close(
        gradients(step.student.embeddings), gradients(views), rtol=1e-9, atol=0
    )


def test_needs():
    needs = make_head(dropout_views=True).needs
    assert needs.student == needs.teacher
    assert needs.student == {'embeddings', 'dropout_embeddings'}
    assert needs.teacher_views == 'all' and needs.min_global == 2
    swav = make_head(codes_from='student', train=('student',)).needs
    assert swav.student == {'embeddings'} and not swav.teacher
    offline = make_head(dropout_views=True, train=('student',)).needs
    assert offline.teacher == {'embeddings'}  # no dropout for codes
    assert offline.teacher_views == 'global'
    assert offline.student == {'embeddings', 'dropout_embeddings'}


# --- SwAV -------------------------------------------------------------------


@pytest.mark.parametrize(('queue_length', 'num_small'), [(0, 3), (9, 2)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_equals_mmpretrains_swav(dtype, queue_length, num_small):
    """Eight steps of training; the queue of 9 is full after three.

    SwAV makes the length a multiple of the batch, else it would keep the
    first rows of the oldest batch where a ring buffer keeps the last.
    """
    ours = make_head(
        dtype,
        codes_from='student',
        train=('student',),
        queue_length=queue_length,
    )
    theirs = SwAVLoss(
        feat_dim=D, num_crops=[2, num_small], num_prototypes=K
    ).to(dtype)
    theirs.prototypes.load_state_dict(ours.prototypes.state_dict())
    if queue_length:
        theirs.queue = torch.zeros(2, queue_length, D, dtype=dtype)
    optimizers = [
        torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
        for m in (ours, theirs)
    ]
    tolerance = (
        dict(rtol=1e-3, atol=1e-3)  # the differences grow with training
        if dtype == torch.float32
        else dict(rtol=1e-9, atol=1e-11)
    )
    for iteration in range(8):
        step = Step(
            encodings(num_small, 0, dtype, seed=iteration), num_global=2
        )
        joined = torch.cat(step.student.embeddings).detach().requires_grad_()
        expected = theirs(F.normalize(joined, dim=1))
        loss = ours.loss(step)['loss_student']
        torch.testing.assert_close(loss, expected, **tolerance)
        for value, optimizer in zip((loss, expected), optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        torch.testing.assert_close(
            torch.cat([t.grad for t in step.student.embeddings]),
            joined.grad,
            **tolerance,
        )
        torch.testing.assert_close(
            ours.prototypes.weight, theirs.prototypes.weight, **tolerance
        )
    assert theirs.use_queue == bool(queue_length)


# --- the queue --------------------------------------------------------------


class Recorder:
    """The codes a head used, and a reference that keeps its own history."""

    def __init__(self, head, monkeypatch):
        self.seen = []
        original = head.codes

        def codes(embeddings):
            self.seen.append(original(embeddings))
            return self.seen[-1]

        monkeypatch.setattr(head, 'codes', codes)


def test_queue_is_that_of_swav(monkeypatch):
    length, start = 7, 2  # no multiple of the batch of 3
    head = make_head(torch.float64, queue_length=length, queue_start=start)
    recorder = Recorder(head, monkeypatch)
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    history = [[], []]  # per global crop, oldest first
    used = []
    for iteration in range(9):
        step = make_step(num_small=1, dropout=False, dtype=torch.float64)
        optimizer.zero_grad()
        sum(head.loss(step).values()).backward()
        # the reference: scored with the current prototypes
        prototypes = head.prototypes.weight.detach()
        for i in (0, 1):
            rows = step.teacher.embeddings[i].detach()
            full = len(history[i]) >= length
            queue = history[i][-length:] if full else []
            expected = slow_codes(rows, prototypes, queue)
            torch.testing.assert_close(
                recorder.seen[-1][i],
                torch.tensor(expected, dtype=torch.float64),
                rtol=1e-9,
                atol=1e-12,
            )
            if iteration >= start:  # written after it was read
                history[i] += list(rows)
        used.append(full)
        optimizer.step()
    # filled from iteration 2 on: 3, 6, 9 >= 7 rows after iteration 4
    assert used == [False] * 5 + [True] * 4
    for i in (0, 1):
        held = {tuple(row.tolist()) for row in head.queues[i].features}
        last = torch.stack(history[i][-length:])
        last = F.normalize(last, dim=1)
        assert held == {tuple(row.tolist()) for row in last}


def test_an_incomplete_queue_changes_nothing():
    torch.manual_seed(5)
    plain = make_head()
    queued = make_head(queue_length=3 * N)
    queued.prototypes.load_state_dict(plain.prototypes.state_dict())
    for iteration in range(4):
        step = make_step(dropout=False)
        a, b = plain.loss(step), queued.loss(step)
        equal = all(
            math.isclose(a[name].item(), b[name].item(), rel_tol=1e-6)
            for name in a
        )
        assert equal == (iteration < 3)


def test_queues_of_the_two_crops_are_apart():
    head, step = make_head(queue_length=2 * N), make_step(dropout=False)
    head.loss(step)
    for i in (0, 1):
        torch.testing.assert_close(
            head.queues[i].features[:N],
            F.normalize(step.teacher.embeddings[i], dim=1).detach(),
        )
        assert not head.queues[i].features[N:].any()


def test_evaluation_changes_no_state():
    head = make_head(queue_length=2 * N)
    with torch.no_grad():
        head.prototypes.weight.mul_(2)
    head.loss(make_step(dropout=False))
    before = {k: v.clone() for k, v in head.state_dict().items()}
    with torch.no_grad():
        head.prototypes.weight.mul_(3)
    head.eval()
    head.loss(make_step(dropout=False))
    for name, value in head.state_dict().items():
        factor = 3 if name == 'prototypes.weight' else 1
        assert torch.equal(value, before[name] * factor), name


def train(head, iterations, seed, optimizer=None):
    optimizer = optimizer or torch.optim.SGD(head.parameters(), lr=0.3)
    losses = []
    for iteration in range(iterations):
        torch.manual_seed(1000 * seed + iteration)
        total = sum(head.loss(make_step(dropout=False)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    return losses


@pytest.mark.parametrize('done', [1, 3, 5])
def test_resuming_gives_bit_equal_losses(done):
    settings = dict(queue_length=7, queue_start=2, freeze_prototypes=4)
    head = make_head(**settings)
    train(head, done, seed=1)
    resumed = make_head(**settings)
    resumed.load_state_dict(head.state_dict())
    assert resumed.state_dict()['iteration'] == done
    assert train(resumed, 6, seed=2) == train(head, 6, seed=2)
    for name, value in head.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_state_dict_holds_the_whole_state():
    assert sorted(make_head(queue_length=6).state_dict()) == [
        'iteration',
        'prototypes.weight',
        'queues.0.features',
        'queues.0.pointer',
        'queues.1.features',
        'queues.1.pointer',
    ]


def test_codes_are_made_of_cosines_by_factors(monkeypatch):
    """In training all scores are cosines: sinkhorn is told that bound."""
    from mmssd.models.heads import online_clustering_head as module

    asked = []

    def watched(scores, *args, **kwargs):
        asked.append((scores.abs().max().item(), kwargs.get('bound')))
        return module.sinkhorn.plain(scores, *args, **kwargs)

    watched.plain = module.sinkhorn
    monkeypatch.setattr(module, 'sinkhorn', watched)
    head = make_head(torch.float32, queue_length=2 * N)
    for _ in range(3):
        head.loss(make_step(2, False, torch.float32))
    assert len(asked) == 6  # of two crops
    assert all(top <= 1 + 1e-6 and bound == 1 for top, bound in asked)


def codes_of_this_rank(batches, queue_length, weight):
    """Run on a worker (or alone): codes and queue for a share of rows."""
    head = make_head(torch.float64, queue_length=queue_length)
    head.prototypes.weight.data.copy_(weight)
    rank, world = dist.get_rank(), dist.get_world_size()
    codes = []
    for crops in batches:
        share = [rows.tensor_split(world)[rank] for rows in crops]
        codes.append(torch.stack(head.codes(share)))
    return codes, head.queues[1].features if head.queues else None


@pytest.mark.dist
@pytest.mark.parametrize('queue_length', [0, 11])
def test_two_processes_give_the_codes_of_one(two_processes, queue_length):
    weight = F.normalize(torch.randn(K, D, dtype=torch.float64), dim=1)
    batches = [
        F.normalize(torch.randn(2, 6, D, dtype=torch.float64), dim=2)
        for _ in range(5)
    ]
    alone, queue = codes_of_this_rank(batches, queue_length, weight)
    (first, queue0), (second, queue1) = two_processes(
        codes_of_this_rank, batches, queue_length, weight
    )
    for a, b, c in zip(first, second, alone, strict=True):
        torch.testing.assert_close(
            torch.cat([a, b], dim=1), c, rtol=1e-10, atol=1e-14
        )
    if queue_length:
        assert torch.equal(queue0, queue) and torch.equal(queue1, queue)


# --- prototypes -------------------------------------------------------------


def test_prototypes_are_normalised_in_place_before_use():
    head, step = make_head(torch.float64), make_step(dtype=torch.float64)
    weight = head.prototypes.weight
    raw = weight.detach().clone()
    expected = F.normalize(raw, dim=1)
    terms = head.loss(step)
    assert head.prototypes.weight is weight
    torch.testing.assert_close(weight.detach(), expected)
    # and it is the normalised ones that scored
    other = make_head(torch.float64)
    other.prototypes.weight.data.copy_(expected)
    for name, term in other.loss(step).items():
        torch.testing.assert_close(term, terms[name])


def test_prototypes_are_left_alone_in_evaluation():
    head = make_head()
    raw = head.prototypes.weight.detach().clone()
    head.eval()
    head.loss(make_step())
    assert torch.equal(head.prototypes.weight.detach(), raw)


OPTIMIZERS = {
    'sgd': lambda p: torch.optim.SGD(
        p, lr=0.5, momentum=0.9, weight_decay=0.1
    ),
    'nesterov': lambda p: torch.optim.SGD(
        p, lr=0.5, momentum=0.9, weight_decay=0.1, nesterov=True
    ),
    'adamw': lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.5),
    'larc': lambda p: LARC(
        p, lr=0.6, momentum=0.9, weight_decay=0.1, trust_coefficient=0.01
    ),
}


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_frozen_for_the_first_iterations(name):
    frozen = 4
    head = make_head(torch.float64, freeze_prototypes=frozen)
    start = F.normalize(head.prototypes.weight.detach(), dim=1)
    optimizer = OPTIMIZERS[name](head.parameters())
    for iteration in range(frozen + 2):
        optimizer.zero_grad()
        step = make_step(dtype=torch.float64)
        sum(head.loss(step).values()).backward()
        # embeddings are trained all along, by the same scores
        assert step.student.embeddings[0].grad.abs().sum() > 0
        # no parameter is left out: a distributed run waits for all
        gradient = head.prototypes.weight.grad
        assert gradient is not None
        assert bool(gradient.any()) == (iteration >= frozen)
        optimizer.step()
        now = F.normalize(head.prototypes.weight.detach(), dim=1)
        moved = (now - start).abs().max()
        if iteration < frozen:
            assert moved < 1e-14, iteration
        else:
            assert moved > 1e-5
    assert head.iteration == frozen + 2


def test_freezing_does_not_change_the_loss():
    torch.manual_seed(9)
    head = make_head(freeze_prototypes=3)
    free = make_head()
    free.load_state_dict(head.state_dict())
    step = make_step(dropout=False)
    for a, b in zip(
        head.loss(step).values(), free.loss(step).values(), strict=True
    ):
        assert torch.equal(a, b)


# --- prototypes of a frozen teacher -----------------------------------------


class FrozenTeacher(nn.Module):
    def __init__(self, prototypes):
        super().__init__()
        self.prototypes = prototypes

    def extra(self, name):
        assert name == 'prototypes'
        return self.prototypes


def test_prototypes_of_the_teacher():
    given = torch.randn(K, D, dtype=torch.float64) * 3
    head = make_head(
        torch.float64, train=('student',), teacher_prototypes=True
    )
    head.prepare(FrozenTeacher(given))
    unit = F.normalize(given, dim=1)
    torch.testing.assert_close(head.prototypes.weight.detach(), unit)
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    for _ in range(2):
        step = make_step(dropout=False, dtype=torch.float64)
        loss = head.loss(step)['loss_student']
        own = head.prototypes.weight.detach().clone()
        codes = [slow_codes(z, unit) for z in step.teacher.embeddings[:2]]
        total, number = slow_loss(step.student.embeddings, [], codes, own)
        assert loss.item() == pytest.approx(total.item() / number, rel=1e-10)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # the student's moved, those of the codes did not
    assert (own - unit).abs().max() > 1e-3
    torch.testing.assert_close(head.teacher_prototypes, unit)
    assert 'teacher_prototypes' in head.state_dict()
    assert not head.teacher_prototypes.requires_grad


def test_prototypes_of_another_shape():
    head = make_head(train=('student',), teacher_prototypes=True)
    with pytest.raises(ValueError, match=r'\(7, 5\).*\(4, 5\).*num_proto'):
        head.prepare(FrozenTeacher(torch.zeros(7, D)))


def test_a_teacher_is_not_asked_without_need():
    make_head().prepare(None)


# --- errors -----------------------------------------------------------------


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(temperature=0), 'temperature=0: must be positive'),
        (dict(epsilon=-1), 'epsilon=-1: must be positive'),
        (dict(num_prototypes=0), 'num_prototypes=0, must be an integer >= 2'),
        (dict(num_prototypes=1), 'num_prototypes=1, must be an integer >= 2'),
        (dict(embed_dim=0), 'embed_dim=0'),
        (dict(iterations=0), 'iterations=0'),
        (dict(queue_length=-1), 'queue_length=-1.*>= 0'),
        (dict(queue_start=-1), 'queue_start=-1'),
        (dict(freeze_prototypes=-1), 'freeze_prototypes=-1'),
        (dict(codes_from='momentum'), "codes_from='momentum'.*'teacher'"),
        (dict(train=()), r'train=\(\): name one or both'),
        (dict(train=('students',)), r"train=\('students',\)"),
        (dict(reduction='none'), "reduction='none': must be one of"),
        (
            dict(train=('student',), weights=dict(teacher=1.0)),
            r"keys must be trained networks \('student',\)",
        ),
        (dict(teacher_prototypes=True), r"train=\('student',\)"),
        (
            dict(
                teacher_prototypes=True,
                codes_from='student',
                train=('student',),
            ),
            "codes_from='teacher'",
        ),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        OnlineClusteringHead(**kwargs)


def test_queue_shorter_than_the_batch():
    head = make_head(queue_length=N - 1)
    with pytest.raises(
        ValueError, match='queue_length=2 .* batch of 3 images.*raise queue_le'
    ):
        head.loss(make_step())


def test_queue_with_three_global_crops():
    head = make_head(queue_length=9)
    step = make_step()
    step.num_global = 3
    with pytest.raises(ValueError, match='3 global crops.*set queue_length=0'):
        head.loss(step)


def test_defaults_are_those_of_the_papers():
    head = MODELS.build(dict(type='OnlineClusteringHead'))
    assert isinstance(head, OnlineClusteringHead)
    assert head.prototypes.weight.shape == (3000, 128)
    assert head.prototypes.bias is None
    assert (head.temperature, head.epsilon, head.iterations) == (0.1, 0.05, 3)
    assert head.weights == dict(teacher=1.0, student=1.0)
    assert not head.queues and not head.dropout_views


# --- before a training ------------------------------------------------------


def plan(**kwargs):
    return TrainingPlan(
        **{**dict(batch=4, max_iters=100, epoch_length=10), **kwargs}
    )


def test_durations_in_epochs_become_iterations():
    head = OnlineClusteringHead(
        4,
        6,
        queue_length=8,
        queue_start=dict(epochs=3),
        freeze_prototypes=dict(epochs=1),
    )
    head.check(plan())
    assert head.queue_start.iterations == 30
    assert head.freeze_prototypes.iterations == 10


def test_prototypes_that_would_stay_frozen_are_refused():
    head = OnlineClusteringHead(4, 6, freeze_prototypes=100)
    with pytest.raises(SetupError, match='would never learn'):
        head.check(plan())
    head.check(plan(max_iters=101))


def test_a_queue_that_would_not_be_used_is_told(monkeypatch):
    head = OnlineClusteringHead(4, 6, queue_length=8, queue_start=100)
    said = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'warning', said.append)
    head.check(plan())
    assert len(said) == 1 and 'its queue will not be used' in said[0]
    head.check(plan(max_iters=101))
    assert len(said) == 1


def test_a_queue_below_the_batch_of_all_processes_is_refused():
    head = OnlineClusteringHead(4, 6, queue_length=8)
    head.check(plan(batch=8))
    with pytest.raises(SetupError, match='queue_length=8 .* batch of 9'):
        head.check(plan(batch=9))


def test_rows_of_another_width():
    head = OnlineClusteringHead(4, 6, train=('student',), codes_from='student')
    rows = [torch.randn(3, 5), torch.randn(3, 5)]
    with pytest.raises(
        SetupError, match='embed_dim=4 .* student have width 5'
    ):
        head.loss(Step(student=Encodings(embeddings=rows), num_global=2))


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match='must be >= 0'):
        OnlineClusteringHead(4, 6, weights=dict(student=-1.0))
