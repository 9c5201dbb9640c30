"""From one normalisation to another."""

import pytest
import torch
from mmpretrain.models.utils.data_preprocessor import (
    ClsDataPreprocessor,
    SelfSupDataPreprocessor,
)

from mmssd.models.utils.input_statistics import (
    InputStatistics,
    input_statistics,
    renormalise,
)

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)


def test_renormalise_by_hand():
    # pixel 180 of a channel of mean 120, std 60 is 1;
    # of mean 100, std 40 it is 2
    source = InputStatistics(MEAN, STD)
    target = InputStatistics((100, 110, 127.5), (40, 25, 127.5))
    scale, shift = renormalise(source, target)
    assert scale == (1.5, 2.0, 40 / 127.5)
    assert shift == (0.5, 0.0, -27.5 / 127.5)
    assert 1 * scale[0] + shift[0] == 2


def test_flipped():
    given = InputStatistics(MEAN, STD, 'RGB')
    assert given.flipped() == InputStatistics(MEAN[::-1], STD[::-1], 'BGR')
    assert given.flipped().flipped() == given
    assert InputStatistics(MEAN, STD).flipped().channel_order is None


def test_agrees():
    plain = InputStatistics(MEAN, STD)
    rgb, bgr = (InputStatistics(MEAN, STD, o) for o in ('RGB', 'BGR'))
    assert plain.agrees(rgb) and bgr.agrees(plain) and rgb.agrees(rgb)
    assert not rgb.agrees(bgr)
    assert not plain.agrees(InputStatistics(STD, STD))
    near = InputStatistics((120.00001, *MEAN[1:]), STD)
    assert plain.agrees(near)
    assert not plain.agrees(InputStatistics((120.01, *MEAN[1:]), STD))


def test_of_pixels_in_0_to_1():
    # 255 x 0.485 = 123.675, 255 x 0.229 = 58.395
    found = InputStatistics.of_unit_pixels((0.485, 0.5, 0), (0.229, 1, 0.5))
    assert found == InputStatistics(
        (123.675, 127.5, 0), (58.395, 255, 127.5), 'RGB'
    )


@pytest.mark.parametrize('rgb', [True, False])
@pytest.mark.parametrize(
    'kind', [SelfSupDataPreprocessor, ClsDataPreprocessor]
)
def test_of_a_data_preprocessor(kind, rgb):
    # unconverted, it may be either
    expected = InputStatistics(MEAN, STD, 'RGB' if rgb else None)
    config = dict(mean=list(MEAN), std=list(STD), to_rgb=rgb)
    assert input_statistics(kind(**config)) == expected
    assert input_statistics(dict(type='X', **config)) == expected


def test_not_known():
    assert input_statistics(None) is None
    assert input_statistics(SelfSupDataPreprocessor()) is None
    assert input_statistics(dict(type='X', to_rgb=True)) is None
    with torch.device('meta'):
        module = SelfSupDataPreprocessor(mean=MEAN, std=STD)
    assert input_statistics(module) is None


def test_one_number_for_all_channels():
    found = input_statistics(dict(mean=[127.5], std=[127.5]))
    assert found == InputStatistics((127.5,) * 3, (127.5,) * 3)


def test_converted_to_bgr():
    found = input_statistics(dict(mean=MEAN, std=STD, rgb_to_bgr=True))
    assert found == InputStatistics(MEAN, STD, 'BGR')


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(mean=(1, 2), std=STD), 'mean=(1, 2): give 3 numbers'),
        (dict(mean=MEAN, std=5.0), 'std=5.0: give 3 numbers'),
        (dict(mean=MEAN, std=(1, 0, 1)), 'must be above 0'),
        (dict(mean=MEAN, std=(1, float('nan'), 1)), 'not finite'),
        (dict(mean=(0.5,) * 3, std=(0.2,) * 3), 'multiply them by 255'),
        (dict(mean=MEAN, std=STD, channel_order='GBR'), "'GBR': must be one"),
    ],
)
def test_refused(kwargs, said):
    with pytest.raises(ValueError) as error:
        InputStatistics(**kwargs)
    assert said in str(error.value)
