"""Crops at fixed places."""

import numpy as np
import pytest
import torch
from torchvision.transforms.functional import ten_crop

from mmssd.apis.tta import ten_crop_pipeline
from mmssd.datasets.transforms import CornerCrop
from mmssd.datasets.transforms.corner_crop import PLACES


def image(height=6, width=8):
    return np.arange(height * width * 3).reshape(height, width, 3)


@pytest.mark.parametrize(
    'place, top, left',
    [
        ('top_left', 0, 0),
        ('top_right', 0, 5),
        ('bottom_left', 4, 0),
        ('bottom_right', 4, 5),
        ('center', 2, 2),  # 2.5 rounds to the even pixel
    ],
)
def test_places(place, top, left):
    pixels = image()
    crop = CornerCrop((3, 2), place)
    found = crop(dict(img=pixels, img_shape=(6, 8)))
    assert np.array_equal(found['img'], pixels[top : top + 2, left : left + 3])
    assert found['img_shape'] == (2, 3)
    gray = crop(dict(img=pixels[..., 0]))
    assert gray['img'].shape == (2, 3)
    assert place in repr(crop)


def test_whole_image():
    pixels = image()
    for place in PLACES:
        found = CornerCrop((8, 6), place)(dict(img=pixels))['img']
        assert np.array_equal(found, pixels)


def test_pipeline_makes_the_ten_crops_of_torchvision():
    from mmcv.transforms import Compose
    from mmengine.registry import DefaultScope, init_default_scope
    from mmpretrain.registry import TRANSFORMS

    init_default_scope('mmpretrain')
    assert DefaultScope.get_current_instance()
    pipeline = ten_crop_pipeline(
        [dict(type='CenterCrop', crop_size=4), dict(type='PackInputs')]
    )
    pixels = np.random.randint(0, 256, (6, 8, 3), np.uint8)
    compose = Compose([TRANSFORMS.build(step) for step in pipeline])
    views = compose(dict(img=pixels, gt_label=3))
    expected = ten_crop(torch.from_numpy(pixels).permute(2, 0, 1), 4)
    assert len(views['inputs']) == 10
    assert all(int(s.gt_label) == 3 for s in views['data_samples'])
    left = [tuple(v.flatten().tolist()) for v in views['inputs']]
    right = [tuple(v.flatten().tolist()) for v in expected]
    assert sorted(left) == sorted(right)


def test_refuses():
    with pytest.raises(
        ValueError, match=r'a.png: a crop of 7 x 3 .* its 6 x 8: resize it'
    ):
        CornerCrop((3, 7))(dict(img=image(), img_path='a.png'))
    with pytest.raises(ValueError, match='image: a crop of 4 x 9'):
        CornerCrop((9, 4))(dict(img=image()))
    with pytest.raises(ValueError, match="place='middle'"):
        CornerCrop(3, 'middle')
    with pytest.raises(ValueError, match=r'crop_size=\(0, 0\)'):
        CornerCrop(0)
