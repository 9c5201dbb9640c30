"""SimCLR: the loss by hand and by a slow loop, one and two processes."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine import dist
from mmpretrain.models.selfsup.simclr import GatherLayer

from mmssd.models.heads import InstanceContrastHead
from mmssd.models.losses import nt_xent
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.step import Encodings, Step

N, D, TAU = 4, 3, 0.5


def rows(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, N, D, generator=generator, dtype=torch.float64)


def slow(views, temperature):
    """Eq. 1 of SimCLR for every row, term by term."""
    z = [F.normalize(v, dim=0) for view in views for v in view]
    total = 0.0
    for i in range(2 * N):
        j = (i + N) % (2 * N)
        terms = [
            torch.exp(z[i] @ z[k] / temperature)
            for k in range(2 * N)
            if k != i
        ]
        total = total - torch.log(
            torch.exp(z[i] @ z[j] / temperature) / sum(terms)
        )
    return total / (2 * N)


def head_loss(views, temperature=TAU):
    head = InstanceContrastHead(embed_dim=D, temperature=temperature)
    step = Step(student=Encodings(embeddings=list(views)), num_global=2)
    return head.loss(step)['loss_contrast']


def test_by_hand():
    # two images, right angles between them: positives at cosine 1
    z = torch.eye(2, dtype=torch.float64)
    everything = torch.cat([z, z])
    loss = nt_xent(
        everything,
        everything,
        torch.arange(4),
        torch.tensor([2, 3, 0, 1]),
        temperature=1.0,
    )
    assert loss.item() == pytest.approx(math.log(1 + 2 / math.e))


def test_value_and_gradient_against_the_loop():
    views, same = rows().requires_grad_(), rows().requires_grad_()
    loss, expected = head_loss(views), slow(same, TAU)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(views.grad, same.grad)


def test_bfloat16_embeddings_are_compared_in_float32():
    views = rows().bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        loss = head_loss(views)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, slow(views.float(), TAU))


def share(theirs):
    """Loss and gradient of this process' images; mmpretrain's if asked."""
    views = rows()
    part = N // dist.get_world_size()
    begin = part * dist.get_rank()
    own = views[:, begin : begin + part].clone().requires_grad_()
    if theirs:
        z = torch.cat(GatherLayer.apply(F.normalize(own.flatten(0, 1))))
        order = torch.arange(2 * N).view(-1, 2, part)
        places = order.flip(1).flatten()
        scores = (z @ z.T / TAU).masked_fill(
            torch.eye(2 * N, dtype=torch.bool), float('-inf')
        )
        loss = F.cross_entropy(scores, places)
    else:
        loss = head_loss(own)
    loss.backward()
    return loss.item(), own.grad


@pytest.mark.parametrize('theirs', [False, True], ids=['ours', 'mmpretrain'])
def test_two_processes_train_as_one(two_processes, theirs):
    loss, gradient = share(False)
    (loss0, first), (loss1, second) = two_processes(share, theirs)
    assert (loss0 + loss1) / 2 == pytest.approx(loss, rel=1e-10)
    # DistributedDataParallel averages over the processes
    averaged = torch.cat([first, second], dim=1) / 2
    factor = 0.5 if theirs else 1.0  # the fault of the library
    torch.testing.assert_close(averaged, factor * gradient)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [(dict(temperature=0), 'temperature'), (dict(weight=-1), 'weight=-1')],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        InstanceContrastHead(**kwargs)


def test_bad_steps():
    with pytest.raises(SetupError, match='embed_dim=5.*width 3'):
        head = InstanceContrastHead(embed_dim=5)
        head.loss(Step(student=Encodings(embeddings=list(rows()))))
    plan = TrainingPlan(batch=1, max_iters=1, epoch_length=1)
    with pytest.raises(SetupError, match='which has 1: raise'):
        InstanceContrastHead().check(plan)
    with pytest.raises(ValueError, match=r'own \(3,\)'):
        nt_xent(
            torch.ones(2, 2), torch.ones(2, 2), torch.arange(3), torch.ones(2)
        )
