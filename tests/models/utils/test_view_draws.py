"""Numbers that depend on seed, image and draw alone."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from mmssd.models.utils.multi_crop_preprocessor import (
    MultiCropPreprocessor,
    ViewRecipe,
    random_boxes,
)
from mmssd.models.utils.view_draws import (
    GOLDEN,
    GlobalDraws,
    SeededDraws,
    mix,
    view_keys,
)


def keys_of(number, seed=0, draw=0):
    image = torch.arange(number)
    return torch.stack(
        [torch.full_like(image, seed), image, torch.full_like(image, draw)], 1
    )


def test_splitmix64_by_its_published_numbers():
    """The first outputs for the seed 1234567, which many codes quote."""
    state = np.uint64(1234567) + np.arange(1, 6).astype(np.uint64) * np.uint64(
        GOLDEN
    )
    assert mix(state).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_numbers_of_an_image_do_not_depend_on_its_batch():
    whole = SeededDraws(keys_of(6))
    some = SeededDraws(keys_of(6)[[4, 1]])
    for shape in ((10,), (), (2, 3), ()):
        a = whole.uniform((*shape, 6), 2.0, 5.0)
        b = some.uniform((*shape, 2), 2.0, 5.0)
        assert a.dtype == torch.float32
        assert torch.equal(a[..., [4, 1]], b)
        assert a.min() >= 2 and a.max() < 5


def test_seed_image_and_draw_all_count():
    base = SeededDraws(torch.tensor([[3, 5, 7]])).uniform((8, 1))
    for key in ([4, 5, 7], [3, 6, 7], [3, 5, 8], [3, 7, 5], [5, 3, 7]):
        other = SeededDraws(torch.tensor([key])).uniform((8, 1))
        assert not (base == other).any()


def test_numbers_are_uniform_and_independent():
    draws = SeededDraws(keys_of(20_000, seed=2))
    a, b = draws.uniform((2, 20_000)).double().numpy()
    for values in (a, b):
        assert stats.kstest(values, 'uniform').pvalue > 1e-3
        neighbours = np.corrcoef(values[1:], values[:-1])[0, 1]
        assert abs(neighbours) < 0.03
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03
    later = SeededDraws(keys_of(20_000, seed=2, draw=1)).uniform((20_000,))
    assert abs(np.corrcoef(a, later.numpy())[0, 1]) < 0.03


def test_all_orders_are_equally_likely():
    number = 24_000
    orders = SeededDraws(keys_of(number)).orders(4)
    assert sorted(order for order, _ in orders) == [
        list(order) for order in itertools.permutations(range(4))
    ]
    index = torch.cat([rows for _, rows in orders])
    assert torch.equal(index.sort().values, torch.arange(number))
    counts = [len(rows) for _, rows in orders]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_torchs_generators_are_used_as_ever():
    """The stream of numbers that earlier versions drew."""
    torch.manual_seed(4)
    draws = GlobalDraws()
    found = draws.uniform((10, 3), 0.2, 0.9), draws.uniform((3,))
    (order, rows), *others = draws.orders(4)
    torch.manual_seed(4)
    assert torch.equal(found[0], torch.empty(10, 3).uniform_(0.2, 0.9))
    assert torch.equal(found[1], torch.rand(3))
    assert order == torch.randperm(4).tolist()
    assert rows is None and not others


def test_keys_of_a_batch():
    class Sample(dict):
        pass

    keys = keys_of(3)
    assert view_keys(keys) is keys
    listed = [Sample(view_key=tuple(key)) for key in keys.tolist()]
    assert torch.equal(view_keys(listed), keys)
    for nothing in (None, [], [Sample()], [1, 2], torch.arange(3)):
        assert view_keys(nothing) is None
    with pytest.raises(ValueError, match='4 images of 3 keys'):
        SeededDraws(keys).uniform((4,))


# --- views ------------------------------------------------------------------

VIEWS = [dict(num=2, size=8), dict(num=1, size=5, scale=(0.05, 0.14))]


def make_views(images, keys, seed=0):
    preprocessor = MultiCropPreprocessor(
        views=VIEWS, mean=[120.0] * 3, std=[60.0] * 3
    )
    torch.manual_seed(seed)
    data = dict(inputs=images, data_samples=keys)
    found = preprocessor(data, training=True)
    assert found['data_samples'] is keys
    return found['inputs']


def test_views_depend_on_the_key_alone():
    images = torch.randint(0, 256, (6, 3, 12, 10), dtype=torch.uint8)
    keys = keys_of(6)
    whole = make_views(images, keys)
    chosen = make_views(images[[4, 1, 2]], keys[[4, 1, 2]], seed=9)
    for a, b in zip(whole, chosen, strict=True):
        torch.testing.assert_close(a[[4, 1, 2]], b, rtol=0, atol=1e-5)
    assert not torch.allclose(whole[0], whole[1])
    other = make_views(images, keys_of(6, draw=1))
    changed = (whole[0] - other[0]).abs().amax((1, 2, 3)) > 1e-3
    assert changed.all()


def test_seeded_views_draw_nothing_from_the_generators():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    images = torch.rand(4, 3, 8, 8)
    torch.manual_seed(1)
    ViewRecipe(num=1, size=8)(images, SeededDraws(keys_of(4)))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_boxes_are_distributed_as_others():
    number = 4000
    torch.manual_seed(0)
    plain = random_boxes(number, 40, 60, (0.2, 1), (0.75, 4 / 3))
    seeded = random_boxes(
        number,
        40,
        60,
        (0.2, 1),
        (0.75, 4 / 3),
        None,
        SeededDraws(keys_of(number)),
    )
    for column in range(4):
        test = stats.ks_2samp(plain[:, column], seeded[:, column])
        assert test.pvalue > 1e-3


def test_seeded_photometry_is_distributed_as_others():
    """Means and spreads of the channels of many copies of one image."""
    number = 3000
    torch.manual_seed(0)
    images = torch.rand(1, 3, 6, 6).repeat(number, 1, 1, 1)
    recipe = ViewRecipe(num=1, size=6, scale=(1, 1), ratio=(1, 1))
    # orders differ between calls only, so many calls
    plain = torch.cat([recipe(part) for part in images.split(50)])
    seeded = recipe(images, SeededDraws(keys_of(number)))
    for statistic in (
        lambda v: v.mean((1, 2, 3)),
        lambda v: v.std((1, 2, 3)),
        lambda v: (v[:, 0] - v[:, 2]).abs().mean((1, 2)),
    ):
        test = stats.ks_2samp(statistic(plain), statistic(seeded))
        assert test.pvalue > 1e-3
