"""SEED's and CompRess' objectives against slow references and by hand."""

import importlib
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmssd.models.losses import compress, similarity_distillation

module = importlib.import_module('mmssd.models.losses.similarity_distillation')


def reference_seed(student, teacher, queue, tau_s, tau_t):
    """Equation by equation, one image at a time."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        s, t = s / s.norm(), t / t.norm()
        anchors = torch.cat([t[None], queue])
        p = torch.softmax(anchors @ t / tau_t, dim=0)
        log_q = torch.log_softmax(anchors @ s / tau_s, dim=0)
        total = total - (p * log_q).sum()
    return total / len(student)


def reference_compress(student, teacher, student_queue, teacher_queue, tau):
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        log_p = torch.log_softmax(teacher_queue @ (t / t.norm()) / tau, 0)
        log_q = torch.log_softmax(student_queue @ (s / s.norm()) / tau, 0)
        total = total + F.kl_div(
            log_q, log_p, reduction='sum', log_target=True
        )
    return total / len(student)


def rows(*shape, unit=False):
    x = torch.randn(*shape, dtype=torch.float64)
    return F.normalize(x, dim=1) if unit else x


def test_seed_by_hand():
    # s = t = (1, 0), one anchor (0, 1): scores (1, 0) on both sides, with
    # temperatures 1 and 1/2 p = (e^2, 1) / (e^2 + 1), and the loss is
    # log(e + 1) - e^2 / (e^2 + 1)
    t = torch.tensor([[2.0, 0.0]])
    queue = torch.tensor([[0.0, 1.0]])
    loss = similarity_distillation(3 * t, t, queue, 1.0, 0.5)
    expected = math.log(math.e + 1) - math.e**2 / (math.e**2 + 1)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ('tau_s', 'tau_t'), [(0.2, 0.01), (0.07, 1e-4), (0.04, 0.04)]
)
@pytest.mark.parametrize('block', [None, 7, 1])
def test_seed_is_the_slow_reference(monkeypatch, tau_s, tau_t, block):
    if block:
        monkeypatch.setattr(module, 'BLOCK', block)
    student = rows(5, 6).requires_grad_()
    teacher, queue = rows(5, 6), rows(3, 6, unit=True)
    loss = similarity_distillation(student, teacher, queue, tau_s, tau_t)
    (gradient,) = torch.autograd.grad(loss, student)
    expected = reference_seed(student, teacher, queue, tau_s, tau_t)
    (wanted,) = torch.autograd.grad(expected, student)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('tau', [0.04, 0.2])
@pytest.mark.parametrize('block', [None, 9])
def test_compress_is_the_slow_reference(monkeypatch, tau, block):
    if block:
        monkeypatch.setattr(module, 'BLOCK', block)
    student = rows(5, 4).requires_grad_()
    teacher = rows(5, 6)
    queues = rows(8, 4), rows(8, 6)
    loss = compress(student, teacher, *queues, tau)
    (gradient,) = torch.autograd.grad(loss, student)
    expected = reference_compress(student, teacher, *queues, tau)
    (wanted,) = torch.autograd.grad(expected, student)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-12)


def test_compress_of_equal_networks_is_zero():
    t, queue = rows(5, 6), rows(9, 6)
    assert compress(t, 2 * t, queue, queue).item() == pytest.approx(0)
    assert compress(-t, t, queue, queue).item() > 0.1


def test_gradients_are_those_of_the_value():
    student = rows(3, 4).requires_grad_()
    teacher, queue = rows(3, 4), rows(5, 4, unit=True)
    assert torch.autograd.gradcheck(
        lambda s: similarity_distillation(s, teacher, queue, 0.2, 0.05),
        student,
    )
    assert torch.autograd.gradcheck(
        lambda s: compress(s, teacher, queue, queue, 0.1), student
    )


def test_only_the_student_gets_a_gradient():
    tensors = [rows(3, 4).requires_grad_() for _ in range(4)]
    student, teacher, first, second = tensors
    (
        similarity_distillation(student, teacher, first)
        + compress(student, teacher, first, second)
    ).backward()
    assert student.grad is not None
    assert teacher.grad is None and first.grad is None and second.grad is None


def test_autocast_keeps_float32_scores():
    """Half precision would move targets at tau_T = 1e-4 by whole nats."""
    student, teacher = rows(8, 16), rows(8, 16)
    # anchors next to the teacher's rows: the target is decided by scores
    # that half precision cannot tell apart
    queue = F.normalize(teacher + 1e-3 * rows(8, 16), dim=1)
    exact = similarity_distillation(student, teacher, queue, 0.07, 1e-4)
    half = [x.float() for x in (student, teacher, queue)]
    with torch.autocast('cpu', torch.bfloat16):
        loss = similarity_distillation(*half, 0.07, 1e-4)
    assert loss.dtype == torch.float32
    assert abs(loss.item() / exact.item() - 1) < 1e-4


@pytest.mark.parametrize('temperatures', [(0.2, 0.01), (0.07, 1e-4)])
def test_bfloat16_rows_under_autocast(temperatures):
    student, teacher = (rows(8, 16).bfloat16() for _ in range(2))
    queue = F.normalize(teacher.float() + 1e-3 * rows(8, 16).float(), dim=1)
    given = student.clone().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16):
        loss = similarity_distillation(given, teacher, queue, *temperatures)
    loss.backward()
    same = student.double().requires_grad_()
    exact = similarity_distillation(
        same, teacher.double(), queue.double(), *temperatures
    )
    exact.backward()
    assert loss.dtype == torch.float32
    assert abs(loss.item() / exact.item() - 1) < 1e-4
    # the gradient goes back to bfloat16: 8 significant bits
    assert given.grad.dtype == torch.bfloat16
    error = (given.grad.double() - same.grad).norm() / same.grad.norm()
    assert error < 2**-8


def test_rows_in_bfloat16_move_a_cosine_by_the_stated_bound():
    """Over one anchor and the own one, the loss tells the cosine."""
    for _ in range(20):
        student, teacher, anchor = (rows(1, 16) for _ in range(3))
        cosines = []
        for cast in (lambda x: x, lambda x: x.bfloat16()):
            s, t, d = map(cast, (student, teacher, anchor))
            # the target is the own anchor: L = log(1 + exp(s d - s t))
            loss = similarity_distillation(
                s, t, F.normalize(d.double(), dim=1), 1.0, 1e-4
            )
            cosines.append(loss.double().expm1().log().item())
        # s d and s t each by 2^-8
        assert abs(cosines[0] - cosines[1]) < 2 * 2**-8


def test_backward_keeps_no_scores():
    """Of N x K scores nothing is kept: only the N x D gradient."""
    student = torch.randn(16, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: kept.append(x.numel()) or x, lambda x: x
    ):
        similarity_distillation(
            student, torch.randn(16, 8), torch.randn(4096, 8)
        )
    assert kept and max(kept) <= 16 * 8


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (
            lambda x: similarity_distillation(x(2, 3), x(2, 4), x(5, 4)),
            'one width',
        ),
        (
            lambda x: similarity_distillation(x(2, 3), x(3, 3), x(5, 3)),
            'same images',
        ),
        (
            lambda x: similarity_distillation(x(2, 3), x(2, 3), x(5, 4)),
            'queue (5, 4)',
        ),
        (
            lambda x: similarity_distillation(x(0, 3), x(0, 3), x(5, 3)),
            'same images',
        ),
        (
            lambda x: similarity_distillation(x(2, 3), x(2, 3), x(5, 3), 0.0),
            'student_temp',
        ),
        (
            lambda x: similarity_distillation(
                x(2, 3), x(2, 3), x(5, 3), 0.2, -1.0
            ),
            'teacher_temperature=-1.0',
        ),
        (
            lambda x: compress(x(2, 3), x(2, 4), x(5, 3), x(6, 4)),
            'row j of both must be one image',
        ),
        (
            lambda x: compress(x(2, 3), x(2, 4), x(5, 4), x(5, 4)),
            'student_queue (5, 4)',
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError) as info:
        call(torch.zeros)
    assert message in str(info.value)


def test_registered():
    s, t, queue = (torch.randn(*shape) for shape in ((4, 3), (4, 3), (6, 3)))
    seed = MODELS.build(
        dict(
            type='mmpretrain.SimilarityDistillationLoss',
            student_temperature=0.07,
            teacher_temperature=1e-4,
        )
    )
    assert seed(s, t, queue) == similarity_distillation(
        s, t, queue, 0.07, 1e-4
    )
    loss = MODELS.build(dict(type='mmpretrain.CompressLoss', temperature=0.1))
    assert loss(s, t, queue, queue) == compress(s, t, queue, queue, 0.1)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that are alive at once."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.now = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self.live or key in self.known:
                continue
            self.live.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)
        return result

    def _gone(self, key, size):
        self.live.discard(key)
        self.now -= size


def extra_bytes(function, *inputs):
    mode = LiveBytes()
    mode.known = {tensor.untyped_storage()._cdata for tensor in inputs}
    with mode:
        function()
    return mode.peak


def test_bytes_are_counted():
    x = torch.ones(1000)

    def work():
        y = x * 2  # 4000
        z = y + 1  # 8000 together
        del y
        return z.exp() + x[:10].sum()  # again 8000, then 12004

    assert 12_000 <= extra_bytes(work, x) <= 12_100


@pytest.mark.parametrize(
    ('n', 'k', 'd', 'block'),
    [
        (64, 2048, 8, 2**15),
        pytest.param(256, 65_536, 128, None, marks=pytest.mark.slow),
    ],
)
def test_extra_memory(monkeypatch, n, k, d, block):
    """Forward and backward: less than one tensor of N x K in float32.

    The small case has blocks of the same share of N x K, a quarter.
    """
    if block is not None:
        monkeypatch.setattr(module, 'BLOCK', block)
    assert module.BLOCK * 4 == n * k
    student = torch.randn(n, d, requires_grad=True)
    teacher, queue = torch.randn(n, d), torch.randn(k, d)

    def step():
        similarity_distillation(student, teacher, queue).backward()

    step()  # the gradient's own tensor is there
    extra = extra_bytes(step, student, student.grad, teacher, queue)
    # three blocks, and rows of width D
    assert 3 * 4 * module.BLOCK <= extra <= 4 * n * k


class Exponents(TorchDispatchMode):
    """Collects the least number of which an exponential is taken."""

    def __init__(self):
        super().__init__()
        self.least = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ('exp', 'exp_'):
            self.least.append(args[0].min().item())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_no_exponential_is_subnormal(dtype):
    """Where processors are slow; SEED's targets are nearly one-hot."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 16, dtype=dtype)
    queue = torch.nn.functional.normalize(
        torch.randn(64, 16, dtype=dtype), dim=1
    )
    temperature = 0.01 if dtype == torch.float32 else 0.001
    with Exponents() as seen:
        similarity_distillation(
            student, teacher, queue, teacher_temperature=temperature
        )
    lowest = math.log(torch.finfo(dtype).tiny)
    # without a limit they would be
    scores = torch.nn.functional.normalize(teacher, dim=1) @ queue.t()
    assert (scores.min() - 1) / temperature < lowest
    assert len(seen.least) == 2 and min(seen.least) > lowest
