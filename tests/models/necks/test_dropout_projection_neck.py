import pytest
import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.necks.dropout_projection_neck import (
    DropoutProjectionNeck,
    own_statistics,
)


def make(dropout=(0.1, 0.05), hid=7, norm=True, seed=1):
    torch.manual_seed(seed)
    neck = DropoutProjectionNeck(5, hid, 4, dropout=dropout, norm=norm)
    if norm:  # neither weight 1 nor bias 0
        nn.init.uniform_(neck.bn0.weight, 0.5, 2)
        nn.init.normal_(neck.bn0.bias)
    return neck


def by_hand(neck, x, keep0=None, keep1=None, rates=(0.0, 0.0)):
    """fc - dropout - bn (batch statistics) - relu - fc - dropout."""
    hidden = x @ neck.fc0.weight.t() + neck.fc0.bias
    if keep0 is not None:
        hidden = hidden * keep0 / (1 - rates[0])
    mean, var = hidden.mean(0), hidden.var(0, unbiased=False)
    hidden = (hidden - mean) / (var + neck.bn0.eps).sqrt()
    hidden = (hidden * neck.bn0.weight + neck.bn0.bias).clamp(min=0)
    out = hidden @ neck.fc1.weight.t() + neck.fc1.bias
    return out if keep1 is None else out * keep1 / (1 - rates[1])


def test_plain_pass_is_the_projector_of_swav():
    neck, x = make(), torch.randn(6, 5)
    (out,) = neck(x)
    assert out.shape == (6, 4)
    torch.testing.assert_close(out, by_hand(neck, x))
    assert neck.fc0.bias is not None and neck.fc1.bias is not None


def test_equals_mmpretrains_neck():
    ours, x = make(), torch.randn(6, 5, 3, 3)
    theirs = MODELS.build(
        dict(
            type='SwAVNeck',
            in_channels=5,
            hid_channels=7,
            out_channels=4,
            norm_cfg=dict(type='BN1d'),
        )
    )
    for target, source in (
        (theirs.projection_neck[0], ours.fc0),
        (theirs.projection_neck[1], ours.bn0),
        (theirs.projection_neck[3], ours.fc1),
    ):
        target.load_state_dict(source.state_dict())
    (out,) = ours(x)
    torch.testing.assert_close(
        F.normalize(out, dim=1), theirs([(x[:2],), (x[2:],)])
    )


def test_places_of_the_two_dropouts(monkeypatch):
    rates = (0.25, 0.5)
    neck, x = make(rates), torch.randn(64, 5)
    calls = []

    def dropout(input, p=0.5, training=True, inplace=False):
        keep = (torch.rand(input.shape) >= p).float()
        calls.append((input.shape, p, keep))
        return input * keep / (1 - p)

    monkeypatch.setattr(F, 'dropout', dropout)
    plain, thinned = neck.forward_views(x)
    assert [(tuple(shape), p) for shape, p, _ in calls] == [
        ((64, 7), 0.25),
        ((64, 4), 0.5),
    ]
    torch.testing.assert_close(plain, by_hand(neck, x))
    keeps = [keep for *_, keep in calls]
    torch.testing.assert_close(thinned, by_hand(neck, x, *keeps, rates))


def test_rate_after_the_second_layer():
    neck, x = make((0.0, 0.3)), torch.randn(4000, 5)
    plain, thinned = neck.forward_views(x)
    dropped = thinned == 0
    assert abs(dropped.float().mean() - 0.3) < 0.02
    # what is kept is scaled so that the mean stays
    torch.testing.assert_close(thinned[~dropped], plain[~dropped] / 0.7)


def test_rate_after_the_first_layer():
    # no norm, and a second layer that copies: hidden units are visible
    neck = DropoutProjectionNeck(5, 5, 5, dropout=(0.3, 0.0), norm=False)
    for layer in (neck.fc0, neck.fc1):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    x = torch.rand(4000, 5) + 0.1
    plain, thinned = neck.forward_views(x)
    torch.testing.assert_close(plain, x)
    dropped = thinned == 0
    assert abs(dropped.float().mean() - 0.3) < 0.02
    torch.testing.assert_close(thinned[~dropped], x[~dropped] / 0.7)


def test_dropout_views_differ_between_calls():
    neck, x = make(), torch.randn(16, 5)
    first, second = neck.forward_views(x)[1], neck.forward_views(x)[1]
    assert not torch.equal(first, second)


def test_running_statistics_are_those_of_the_plain_pass():
    neck, other = make((0.5, 0.5)), make((0.5, 0.5))
    for _ in range(3):
        x = torch.randn(16, 5)
        neck.forward_views(x)
        other(x)
    for name in ('running_mean', 'running_var', 'num_batches_tracked'):
        assert torch.equal(
            getattr(neck.bn0, name), getattr(other.bn0, name)
        ), name
    assert neck.bn0.num_batches_tracked == 3
    assert neck.bn0.track_running_stats is True
    assert not torch.equal(neck.bn0.running_mean, torch.zeros(7))


def test_running_statistics_of_a_synchronised_norm():
    neck = nn.SyncBatchNorm.convert_sync_batchnorm(make((0.5, 0.5)))
    assert isinstance(neck.bn0, nn.SyncBatchNorm)
    other, x = make((0.5, 0.5)), torch.randn(16, 5)
    neck.forward_views(x)
    other(x)
    assert torch.equal(neck.bn0.running_mean, other.bn0.running_mean)
    assert torch.equal(neck.bn0.running_var, other.bn0.running_var)


def test_tracking_is_restored_after_an_error():
    norm = nn.BatchNorm1d(3)
    with pytest.raises(RuntimeError), own_statistics(norm):
        assert norm.track_running_stats is False
        raise RuntimeError
    assert norm.track_running_stats is True
    with own_statistics(nn.Identity()):
        pass


def test_rates_of_zero_give_equal_views():
    neck, x = make((0, 0)), torch.randn(6, 5)
    plain, thinned = neck.forward_views(x)
    assert torch.equal(plain, thinned)


def test_weights_are_shared_and_trained_by_both_views():
    neck, x = make(), torch.randn(16, 5)
    names = {name for name, _ in neck.named_parameters()}
    assert names == {
        'fc0.weight',
        'fc0.bias',
        'bn0.weight',
        'bn0.bias',
        'fc1.weight',
        'fc1.bias',
    }
    for view in (0, 1):
        neck.zero_grad()
        neck.forward_views(x)[view].square().sum().backward()
        # (the bias before a batch norm has no influence: gradient 0)
        for name, parameter in neck.named_parameters():
            assert parameter.grad is not None, name
            assert name == 'fc0.bias' or parameter.grad.any(), name
    # both views of rates 0: twice the gradient of one
    neck = make((0, 0))
    sum(neck.forward_views(x)).sum().backward()
    both = neck.fc1.weight.grad.clone()
    neck.zero_grad()
    neck(x)[0].sum().backward()
    torch.testing.assert_close(both, 2 * neck.fc1.weight.grad)


def test_first_layer_runs_once():
    neck, calls = make(), {'fc0': 0, 'fc1': 0}
    for name in calls:
        getattr(neck, name).register_forward_hook(
            lambda *_, name=name: calls.update({name: calls[name] + 1})
        )
    neck.forward_views(torch.randn(6, 5))
    assert calls == {'fc0': 1, 'fc1': 2}


def test_evaluation_has_no_dropout():
    neck, x = make((0.9, 0.9)), torch.randn(6, 5)
    neck(x)
    neck.eval()
    plain, thinned = neck.forward_views(x)
    assert torch.equal(plain, thinned)
    assert torch.equal(plain, neck(x)[0])
    hidden = F.relu(neck.bn0(neck.fc0(x)))
    torch.testing.assert_close(plain, neck.fc1(hidden))


@pytest.mark.parametrize('method', ['forward', 'forward_views'])
def test_maps_vectors_and_tuples(method):
    neck = make((0, 0))
    maps = torch.randn(6, 5, 4, 3)
    pooled = maps.mean((2, 3))
    expected = neck(pooled)[0]
    for given in (maps, (maps,), (torch.zeros(6, 2, 8, 6), maps), (pooled,)):
        out = getattr(neck, method)(given)[0]
        torch.testing.assert_close(out, expected)


def test_without_norm():
    neck, x = make(norm=False), torch.randn(1, 5)
    (out,) = neck(x)  # a single row has no batch statistics to fail on
    torch.testing.assert_close(out, neck.fc1(F.relu(neck.fc0(x))))
    assert not list(neck.buffers())


def test_defaults_and_registration():
    neck = MODELS.build(dict(type='DropoutProjectionNeck', in_channels=9))
    assert isinstance(neck, DropoutProjectionNeck)
    assert neck.fc0.weight.shape == (2048, 9)
    assert neck.fc1.weight.shape == (128, 2048)
    assert neck.out_channels == 128
    assert neck.dropout == (0.1, 0.05)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(in_channels=0), 'all must be >= 1'),
        (dict(hid_channels=0), r'\(5, 0, 128\)'),
        (dict(out_channels=-1), r'\(5, 2048, -1\)'),
        (dict(dropout=(0.1,)), r'dropout=\(0.1,\): give two rates'),
        (dict(dropout=(0.1, 1.0)), r'two rates in \[0, 1\)'),
        (dict(dropout=(-0.1, 0.0)), r'dropout=\(-0.1, 0.0\)'),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        DropoutProjectionNeck(**{'in_channels': 5, **kwargs})


@pytest.mark.parametrize('place', ['linear', 'activation'])
def test_place_of_the_first_dropout(monkeypatch, place):
    torch.manual_seed(0)
    neck = DropoutProjectionNeck(3, 6, 2, dropout=(0.5, 0.25), place=place)
    x = torch.randn(5, 3)
    seen = []

    def halve(value, rate):  # in place of chance
        seen.append((tuple(value.shape), rate))
        return value * rate

    monkeypatch.setattr(F, 'dropout', halve)
    plain, thinned = neck.forward_views(x)
    hidden = F.linear(x, neck.fc0.weight, neck.fc0.bias)
    if place == 'linear':
        hidden = 0.5 * hidden

    def normalise(h):
        return (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()

    active = normalise(hidden).relu()
    if place == 'activation':
        active = 0.5 * active
    expected = 0.25 * F.linear(active, neck.fc1.weight, neck.fc1.bias)
    torch.testing.assert_close(thinned, expected)
    assert seen == [((5, 6), 0.5), ((5, 2), 0.25)]
    assert not torch.allclose(plain, thinned)


def test_running_statistics_of_the_dropout_pass():
    x = torch.randn(8, 3)
    counts = {}
    for record in (False, True):
        neck = DropoutProjectionNeck(3, 6, 2, record_dropout=record)
        neck.forward_views(x)
        counts[record] = int(neck.bn0.num_batches_tracked)
    assert counts == {False: 1, True: 2}


def test_unknown_place():
    with pytest.raises(ValueError, match="place='nowhere'"):
        DropoutProjectionNeck(3, place='nowhere')
