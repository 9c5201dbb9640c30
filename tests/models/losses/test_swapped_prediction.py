import math

import pytest
import torch
from mmpretrain.registry import MODELS

from mmssd.models.losses.swapped_prediction import (
    SwappedPredictionLoss,
    check_temperature,
    swapped_prediction,
)


def inputs(rows=4, prototypes=5, dtype=torch.float64):
    scores = torch.randn(rows, prototypes, dtype=dtype)
    codes = torch.randn(rows, prototypes, dtype=dtype).softmax(1)
    return scores, codes


def test_by_hand():
    # temperature 0.1, row 1: s / tau = (ln 3, 0), softmax (3/4, 1/4),
    #   q = (1/2, 1/2): -(ln(3/4) + ln(1/4)) / 2 = 0.836988
    # row 2: equal scores, softmax (1/2, 1/2), any q: ln 2 = 0.693147
    # mean 0.765068
    scores = torch.tensor([[0.1 * math.log(3), 0.0], [0.7, 0.7]])
    codes = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    loss = swapped_prediction(scores, codes)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(0.765068, abs=1e-6)
    # temperature 0.05: s / tau = (2 ln 3, 0), softmax (9/10, 1/10),
    #   -(ln(9/10) + ln(1/10)) / 2 = 1.203973, mean with ln 2: 0.948560
    loss = swapped_prediction(scores, codes, temperature=0.05)
    assert loss.item() == pytest.approx(0.948560, abs=1e-6)


def test_equals_loops():
    scores, codes = inputs()
    total = 0.0
    for s, q in zip(scores.tolist(), codes.tolist(), strict=True):
        normaliser = math.log(sum(math.exp(x / 0.3) for x in s))
        total -= sum(c * (x / 0.3 - normaliser) for x, c in zip(s, q))  # noqa: B905
    loss = swapped_prediction(scores, codes, 0.3)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(total / 4, rel=1e-13)


def test_gradient():
    scores, codes = inputs()
    scores.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: swapped_prediction(s, codes, 0.2), scores
    )
    # d l / d s = (softmax(s / tau) - q) / (tau B), as codes sum to 1
    swapped_prediction(scores, codes, 0.2).backward()
    expected = ((scores / 0.2).softmax(1) - codes) / (0.2 * 4)
    torch.testing.assert_close(scores.grad, expected.detach())


def test_codes_get_no_gradient():
    scores, codes = inputs()
    codes.requires_grad_()
    assert not swapped_prediction(scores, codes).requires_grad
    swapped_prediction(scores.requires_grad_(), codes).backward()
    assert codes.grad is None


def test_inputs_are_not_changed():
    scores, codes = inputs()
    before = scores.clone(), codes.clone()
    swapped_prediction(scores, codes)
    assert torch.equal(scores, before[0]) and torch.equal(codes, before[1])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    scores, codes = inputs(dtype=torch.float32)
    scores = (scores * 30).to(dtype)  # s / tau up to about 1e3
    loss = swapped_prediction(scores, codes)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, swapped_prediction(scores.float(), codes))
    wide = swapped_prediction(scores.double(), codes.double())
    assert loss.item() == pytest.approx(wide.item(), rel=1e-5)
    half_codes = swapped_prediction(scores, codes.to(dtype))
    assert half_codes.item() == pytest.approx(wide.item(), rel=1e-2)


def test_autocast_does_not_lower_the_precision():
    scores, codes = inputs(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = swapped_prediction(scores, codes)
    assert torch.equal(loss, swapped_prediction(scores, codes))


def test_large_scores_stay_finite():
    scores = torch.tensor([[1e6, -1e6]], requires_grad=True)
    loss = swapped_prediction(scores, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(scores.grad).all()


def test_module_form():
    scores, codes = inputs()
    module = MODELS.build(dict(type='SwappedPredictionLoss', temperature=0.3))
    assert isinstance(module, SwappedPredictionLoss)
    assert torch.equal(
        module(scores, codes), swapped_prediction(scores, codes, 0.3)
    )
    with pytest.raises(ValueError, match='temperature=0'):
        SwappedPredictionLoss(0)


def test_errors():
    scores, codes = inputs()
    with pytest.raises(ValueError, match=r'\(4, 5\) and codes \(3, 5\)'):
        swapped_prediction(scores, codes[:3])
    with pytest.raises(ValueError, match=r'\(5,\)'):
        swapped_prediction(scores[0], codes[0])
    for value in (0, -0.1, float('nan'), float('inf')):
        with pytest.raises(ValueError, match=f'temperature={value}'):
            swapped_prediction(scores, codes, value)
    with pytest.raises(ValueError, match='tau_t=0: must be positive'):
        check_temperature(0, 'tau_t')
