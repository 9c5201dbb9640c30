import importlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmssd.evaluation.linear_probe import (
    linear_probe,
    logistic_regression,
    stratified_subset,
)

# the package exports the function of the same name
module = importlib.import_module('mmssd.evaluation.linear_probe')


def make_data(num=300, width=8, classes=4, seed=0, spread=1.0):
    """Correlated features of very different scales around class centres."""
    generator = torch.Generator().manual_seed(seed)
    options = dict(generator=generator, dtype=torch.float64)
    y = torch.randint(0, classes, (num,), generator=generator)
    y[:classes] = torch.arange(classes)
    fixed = torch.Generator().manual_seed(99)
    centres = torch.randn(classes, width, generator=fixed).double()
    mix = torch.randn(width, width, generator=fixed).double()
    x = (centres[y] + spread * torch.randn(num, width, **options)) @ mix
    return x * torch.logspace(-3, 3, width, dtype=torch.float64) + 5, y


def standardise(x):
    return (x - x.mean(0)) / x.std(0, correction=0)


@pytest.mark.parametrize('weight_decay', [1e-4, 1e-2, 1.0])
def test_optimum_is_that_of_scikit_learn(weight_decay):
    linear_model = pytest.importorskip('sklearn.linear_model')
    x, y = make_data()
    x = standardise(x)
    model = linear_model.LogisticRegression(
        C=1 / (len(x) * weight_decay), tol=1e-10, max_iter=10_000
    ).fit(x.numpy(), y.numpy())
    weight, bias = logistic_regression(x, y, weight_decay)
    torch.testing.assert_close(
        weight, torch.from_numpy(model.coef_), rtol=1e-4, atol=1e-5
    )
    # the bias is free up to a constant
    torch.testing.assert_close(
        bias - bias.mean(),
        torch.from_numpy(model.intercept_ - model.intercept_.mean()),
        rtol=1e-4,
        atol=1e-5,
    )


def test_one_feature_by_hand():
    # x = +1, -1 for classes 1, 0. By symmetry W = (-w, w), b = 0, and with
    # margin 2w the derivative of log(1 + e^-2w) + (l / 2) 2 w^2 is zero:
    #   2 / (1 + e^2w) = 2 l w;  for w = 1: l = 1 / (1 + e^2) = 0.1192029
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    weight_decay = 1 / (1 + math.exp(2))
    weight, bias = logistic_regression(x, torch.tensor([1, 0]), weight_decay)
    expected = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(bias, torch.zeros_like(bias), rtol=0, atol=1e-7)


def test_gradient_vanishes_with_fewer_rows_than_features():
    x, y = make_data(num=20, width=30)
    x, weight_decay = standardise(x), 1e-3
    weight, bias = logistic_regression(x, y, weight_decay)
    residual = (x @ weight.T + bias).softmax(1) - F.one_hot(y, 4)
    slope = residual.T @ x / len(x) + weight_decay * weight
    assert slope.abs().max() < 1e-7
    assert residual.mean(0).abs().max() < 1e-7


def test_float32_finds_the_same(caplog):
    x, y = make_data()
    x = standardise(x)
    exact, _ = logistic_regression(x, y, 1e-3)
    single, _ = logistic_regression(x.float(), y, 1e-3)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=2e-3)


def test_probe_equals_its_parts_written_out():
    (x, y), (test_x, test_y) = make_data(), make_data(200, seed=1)
    mean, std = x.mean(0), x.std(0, correction=0)
    weight, bias = logistic_regression((x - mean) / std, y, 0.01)
    guess = ((test_x - mean) / std @ weight.T + bias).argmax(1)
    by_class = [
        (guess[test_y == c] == c).double().mean().item() for c in range(4)
    ]
    result = linear_probe(x, y, test_x, test_y, weight_decays=(0.01,))
    expected = (guess == test_y).double().mean().item()
    assert 0.5 < expected < 1
    assert result['top1'] == pytest.approx(100 * expected)
    assert result['class_mean'] == pytest.approx(100 * np.mean(by_class))
    assert result['weight_decay'] == 0.01


def test_scale_and_offset_of_features_do_not_matter():
    (x, y), (test_x, test_y) = make_data(), make_data(200, seed=1)
    scale = torch.logspace(2, -2, 8, dtype=torch.float64)
    first = linear_probe(x, y, test_x, test_y)
    second = linear_probe(x * scale - 3, y, test_x * scale - 3, test_y)
    assert first == pytest.approx(second)


def test_weight_decay_is_chosen_on_training_rows():
    # much noise, few rows: a strong decay is better
    x, y = make_data(num=60, width=40, spread=4.0)
    test_x, test_y = make_data(num=2000, width=40, seed=1, spread=4.0)
    chosen = linear_probe(x, y, test_x, test_y)
    assert chosen['weight_decay'] >= 0.1
    weak = linear_probe(x, y, test_x, test_y, weight_decays=(1e-6,))
    assert chosen['top1'] > weak['top1']
    # test labels have no say
    shifted = linear_probe(x, y, test_x, (test_y + 1) % 4)
    assert shifted['weight_decay'] == chosen['weight_decay']
    assert linear_probe(x, y, test_x, test_y) == chosen


def test_one_fold_for_many_rows(monkeypatch):
    (x, y), test = make_data(), make_data(50, seed=1)
    fits = []
    fit = logistic_regression
    monkeypatch.setattr(
        module,
        'logistic_regression',
        lambda x, *args: fits.append(len(x)) or fit(x, *args),
    )
    linear_probe(x, y, *test, weight_decays=(0.1, 0.01))
    assert len(fits) == 2 * 5 + 1 and fits[-1] == 300
    assert all(235 <= rows <= 245 for rows in fits[:-1])
    fits.clear()
    monkeypatch.setattr(module, 'ONE_FOLD_ROWS', 200)
    linear_probe(x, y, *test, weight_decays=(0.1, 0.01))
    assert len(fits) == 2 + 1


def test_constant_and_half_precision_features():
    (x, y), (test_x, test_y) = make_data(), make_data(50, seed=1)
    x, test_x = x.float(), test_x.float()
    options = dict(weight_decays=(0.1,))
    expected = linear_probe(x, y, test_x, test_y, **options)
    constant = linear_probe(
        F.pad(x, (0, 1), value=1 / 3),
        y,
        F.pad(test_x, (0, 1), value=1 / 3),
        test_y,
        **options,
    )
    assert constant == pytest.approx(expected)
    half = linear_probe(x.bfloat16(), y, test_x.bfloat16(), test_y, **options)
    assert abs(half['top1'] - expected['top1']) < 10


def test_unknown_test_class_counts_as_wrong():
    (x, y), (test_x, test_y) = make_data(), make_data(50, seed=1)
    known = linear_probe(x, y, test_x, test_y, weight_decays=(0.1,))
    more = linear_probe(
        x,
        y,
        torch.cat([test_x, test_x]),
        torch.cat([test_y, torch.full_like(test_y, 9)]),
        weight_decays=(0.1,),
    )
    assert more['top1'] == pytest.approx(known['top1'] / 2)
    assert more['class_mean'] == pytest.approx(known['class_mean'] * 4 / 5)


def test_search_ends_after_two_no_better(monkeypatch):
    x, y = make_data()
    tried = []

    def fit(x, y, weight_decay, num_classes, tolerance):
        tried.append(weight_decay)
        # right for all at 0.1 and 1e-3, for class 0 only elsewhere
        if weight_decay in (0.1, 1e-3):
            return logistic_regression(x, y, 1e-3, num_classes)
        bias = torch.eye(num_classes, dtype=x.dtype)[0]
        return x.new_zeros(num_classes, x.size(1)), bias

    monkeypatch.setattr(module, 'logistic_regression', fit)
    result = linear_probe(x, y, x, y)
    assert result['weight_decay'] == 0.1  # the stronger of equals
    # 10 is best at first, 1 no better, 0.1 better, two are not; final fit
    expected = [10.0, 1.0, 0.1, 1e-2, 1e-3]
    assert tried == [w for w in expected for _ in range(5)] + [0.1]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(test_x=torch.zeros(2, 3)), 'width 8, test_x 3'),
        (dict(train_x=torch.full((300, 8), math.nan)), 'train_x holds NaN'),
        (dict(train_y=torch.zeros(300).long()), 'only class 0'),
        (dict(train_y=torch.zeros(3).long()), 'each of the 300 rows'),
        (dict(weight_decays=()), 'weight_decays'),
        (dict(weight_decays=(0.0,)), 'positive candidates'),
        (dict(train_y=torch.arange(300)), 'none can be held out'),
    ],
)
def test_errors(change, message):
    x, y = make_data()
    data = dict(train_x=x, train_y=y, test_x=x[:2], test_y=y[:2])
    with pytest.raises(ValueError, match=message):
        linear_probe(**{**data, **change})
    with pytest.raises(ValueError, match='weight_decay=0'):
        logistic_regression(x, y, 0)


def test_stratified_subset():
    labels = np.repeat([3, 0, 7], [100, 50, 10])
    rows = stratified_subset(labels, fraction=0.1)
    assert (np.diff(rows) > 0).all()
    classes, counts = np.unique(labels[rows], return_counts=True)
    assert classes.tolist() == [0, 3, 7] and counts.tolist() == [5, 10, 1]
    # at least one of a class, and all of it
    assert len(stratified_subset(labels, fraction=1e-9)) == 3
    assert len(stratified_subset(labels, fraction=1.0)) == 160
    few = stratified_subset(torch.from_numpy(labels), per_class=4)
    assert np.unique(labels[few], return_counts=True)[1].tolist() == [4] * 3
    # frozen, nested, different by seed
    rows = stratified_subset([1, 1, 1, 1, 0, 0, 0, 0], fraction=0.5)
    assert rows.tolist() == [0, 2, 6, 7]
    assert set(few) <= set(stratified_subset(labels, per_class=9))
    assert few.tolist() == stratified_subset(labels, per_class=4).tolist()
    other = stratified_subset(labels, per_class=4, seed=1)
    assert few.tolist() != other.tolist()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(), 'give one of the two'),
        (dict(fraction=0.1, per_class=1), 'give one of the two'),
        (dict(fraction=0.0), 'fraction=0.0'),
        (dict(fraction=1.5), 'fraction=1.5'),
        (dict(per_class=0), 'per_class=0'),
        (dict(per_class=3), 'per_class=3: class 1 has only 2 rows'),
    ],
)
def test_stratified_subset_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        stratified_subset([0, 0, 0, 1, 1], **arguments)
    with pytest.raises(ValueError, match='one integer per row'):
        stratified_subset([0.5, 1.0], fraction=0.5)
