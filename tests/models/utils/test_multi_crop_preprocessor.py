import math

import pytest
import torch
import torchvision.transforms.functional as TF
from mmpretrain.registry import MODELS
from torchvision.transforms import RandomResizedCrop

from mmssd.models.utils.multi_crop_preprocessor import (
    MultiCropPreprocessor,
    ViewRecipe,
    color_jitter,
    crop_resize,
    gaussian_blur,
    random_boxes,
    shift_hue,
    to_grey,
)

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
PLAIN = dict(flip=0, jitter_prob=0, grey_prob=0, blur_prob=0)


def make_images(n=4, height=12, width=10):
    return torch.rand(n, 3, height, width)


def whole(images):
    n, _, height, width = images.shape
    return torch.tensor([[0.0, 0.0, width, height]]).repeat(n, 1)


# --- boxes ------------------------------------------------------------------


@pytest.mark.parametrize(
    ('scale', 'ratio'),
    [((0.14, 1.0), (3 / 4, 4 / 3)), ((0.05, 0.14), (0.5, 2.0))],
)
def test_boxes_are_distributed_as_torchvisions(scale, ratio):
    height, width, draws = 300, 400, 4000
    boxes = random_boxes(draws, height, width, scale, ratio)
    image = torch.empty(3, height, width)
    reference = torch.tensor(
        [
            RandomResizedCrop.get_params(image, scale, ratio)
            for _ in range(draws)
        ],
        dtype=torch.float32,
    )  # top, left, height, width
    reference = reference[:, [1, 0, 3, 2]]

    def quantities(boxes):
        left, top, w, h = boxes.unbind(1)
        return dict(
            area=w * h / (height * width),
            aspect=(w / h).log() / math.log(ratio[1]),
            left=left / width,
            top=top / height,
            centre=(left + w / 2) / width,
        )

    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    own, expected = quantities(boxes), quantities(reference)
    for name, values in own.items():
        # 4000 draws each: quantiles of [0, 1] values are good to 0.03
        torch.testing.assert_close(
            values.quantile(levels),
            expected[name].quantile(levels),
            rtol=0,
            atol=0.035 if name != 'aspect' else 0.07,
            msg=lambda text, name=name: f'{name}: {text}',
        )
        spread = expected[name].std() / draws**0.5
        assert (values.mean() - expected[name].mean()).abs() < 6 * spread


@pytest.mark.parametrize('shape', [(300, 400), (50, 20), (9, 90)])
def test_boxes_lie_inside_and_keep_their_ranges(shape):
    height, width = shape
    scale, ratio = (0.2, 0.9), (3 / 4, 4 / 3)
    left, top, w, h = random_boxes(500, height, width, scale, ratio).unbind(1)
    assert (left >= 0).all() and (top >= 0).all()
    assert (left + w <= width * (1 + 1e-6)).all()
    assert (top + h <= height * (1 + 1e-6)).all()
    aspect = w / h
    assert (aspect > ratio[0] - 1e-5).all()
    assert (aspect < ratio[1] + 1e-5).all()
    if shape == (300, 400):
        area = w * h / (height * width)
        assert (area > 0.2 - 1e-5).all() and (area < 0.9 + 1e-5).all()


@pytest.mark.parametrize(
    ('height', 'width', 'expected'),
    [
        # too wide for 4 / 3: full height, width 30 * 4 / 3, centred
        (30, 300, (130, 0, 40, 30)),
        # too tall for 3 / 4: full width, height 30 / (3 / 4), centred
        (300, 30, (0, 130, 30, 40)),
    ],
)
def test_box_when_nothing_fits(height, width, expected):
    ratio = (3 / 4, 4 / 3)
    boxes = random_boxes(3, height, width, (1.0, 1.0), ratio)
    torch.testing.assert_close(
        boxes, torch.tensor([expected]).float().repeat(3, 1)
    )
    top, left, h, w = RandomResizedCrop.get_params(
        torch.empty(3, height, width), (1.0, 1.0), ratio
    )
    assert (left, top, w, h) == expected


# --- crops ------------------------------------------------------------------


def test_the_whole_box_at_the_same_size_is_the_identity():
    images = make_images(height=11, width=11)
    view = crop_resize(images, whole(images), 11)
    torch.testing.assert_close(view, images, rtol=0, atol=1e-5)


def test_flip_mirrors_left_and_right():
    images = make_images(height=8, width=8)
    flip = torch.tensor([True, False, True, False])
    view = crop_resize(images, whole(images), 8, flip)
    expected = torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-5)
    # also within a box off the centre
    box = torch.tensor([[1.0, 2.0, 4.0, 5.0]]).repeat(4, 1)
    plain = crop_resize(images, box, 6)
    every = torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(
        crop_resize(images, box, 6, every), plain.flip(3), rtol=0, atol=1e-5
    )


def test_box_of_whole_pixels_is_a_slice():
    images = make_images(height=12, width=10)
    boxes = torch.tensor(
        [[0, 0, 5, 5], [5, 7, 5, 5], [3, 2, 5, 5], [1, 6, 5, 5]]
    )
    view = crop_resize(images, boxes.float(), 5)
    for image, box, own in zip(images, boxes.tolist(), view, strict=True):
        left, top, w, h = box
        torch.testing.assert_close(
            own, image[:, top : top + h, left : left + w], rtol=0, atol=1e-5
        )


def test_enlarging_is_bilinear_inside_the_box():
    # a linear ramp stays a ramp, sampled at the pixel centres
    x = torch.arange(12.0).view(1, 1, 1, 12).expand(1, 3, 12, 12)
    view = crop_resize(x, torch.tensor([[3.0, 3.0, 6.0, 6.0]]), 12)
    expected = 3 + (torch.arange(12.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(view[0, 0, 4], expected)


def test_shrinking_averages_fine_texture():
    # each pixel of the view covers two dark, four bright, two dark columns:
    # half grey, where sampling the centre alone gives white
    bright = (torch.arange(64) + 6) % 8 < 4
    x = bright.float().view(1, 1, 1, 64).expand(1, 3, 64, 64)
    view = crop_resize(x, whole(x), 8)
    assert view.shape == (1, 3, 8, 8)
    assert (view - 0.5).abs().max() < 0.15


# --- colours ----------------------------------------------------------------


@pytest.mark.parametrize('shift', [-0.5, -0.2, -0.03, 0.0, 0.1, 0.37, 0.5])
def test_hue_against_torchvision(shift):
    images = torch.cat(
        [
            make_images(2),
            torch.rand(1, 1, 12, 10).repeat(1, 3, 1, 1),  # greys have none
            make_images(1).round(),  # saturated colours, equal channels
        ]
    )
    shifts = torch.tensor([shift, shift / 2, shift, shift])
    own = shift_hue(images, shifts)
    for image, value, view in zip(images, shifts.tolist(), own, strict=True):
        torch.testing.assert_close(
            view, TF.adjust_hue(image, value), rtol=0, atol=2e-5
        )


def test_hue_of_primary_colours():
    red, green, blue = torch.eye(3).view(3, 1, 3, 1, 1)
    third = torch.tensor([1 / 3])
    torch.testing.assert_close(shift_hue(red, third), green)
    torch.testing.assert_close(shift_hue(green, third), blue)
    torch.testing.assert_close(shift_hue(blue, third), red)
    # half a turn: the complement
    torch.testing.assert_close(shift_hue(red, torch.tensor([0.5])), 1 - red)


def test_grey():
    images = make_images()
    grey = to_grey(images)
    assert grey.shape == (4, 1, 12, 10)
    # ITU-R 601
    expected = (
        0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    )
    torch.testing.assert_close(grey[:, 0], expected)
    torch.testing.assert_close(
        grey, TF.rgb_to_grayscale(images), rtol=0, atol=2e-4
    )


def draws(seed, count, n):
    torch.manual_seed(seed)
    return [torch.rand(n) for _ in range(count)]


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_jitter_against_torchvision(order):
    images, strengths = make_images(), (0.8, 0.6, 1.5, 0.2)
    torch.manual_seed(4)
    own = color_jitter(images, strengths, order)
    adjust = [
        TF.adjust_brightness,
        TF.adjust_contrast,
        TF.adjust_saturation,
        TF.adjust_hue,
    ]
    ranges = [(0.2, 1.8), (0.4, 1.6), (0.0, 2.5), (-0.2, 0.2)]
    factors = draws(4, 4, 4)
    for n, image in enumerate(images):
        expected = image
        for kind, draw in zip(order, factors, strict=True):
            low, high = ranges[kind]
            factor = low + draw[n].item() * (high - low)
            expected = adjust[kind](expected, factor)
        torch.testing.assert_close(own[n], expected, rtol=0, atol=1e-3)


def test_jitter_differs_between_images_and_leaves_its_input_alone():
    images = make_images(1).repeat(6, 1, 1, 1)
    before = images.clone()
    out = color_jitter(images, (0.8, 0.8, 0.8, 0.2), (0, 1, 2, 3))
    assert torch.equal(images, before)
    for i in range(6):
        for j in range(i):
            assert (out[i] - out[j]).abs().max() > 1e-3
    assert out.min() >= 0 and out.max() <= 1


def test_jitter_of_strength_zero():
    images = make_images()
    assert torch.equal(
        color_jitter(images, (0, 0, 0, 0), (3, 2, 1, 0)), images
    )


def test_blur_against_a_float64_gaussian():
    images = make_images(height=20, width=17)
    sigmas = torch.tensor([0.1, 0.7, 1.3, 2.0])
    own = gaussian_blur(images, sigmas)
    for image, sigma, view in zip(images, sigmas.tolist(), own, strict=True):
        x = torch.arange(-6, 7, dtype=torch.float64)
        weights = torch.exp(-(x**2) / (2 * sigma**2))
        weights = weights / weights.sum()
        kernel = weights[:, None] * weights[None, :]
        padded = torch.nn.functional.pad(
            image.double()[:, None], [6] * 4, mode='reflect'
        )
        expected = torch.zeros(3, 20, 17, dtype=torch.float64)
        for dy in range(13):
            for dx in range(13):
                expected += (
                    kernel[dy, dx] * padded[:, 0, dy : dy + 20, dx : dx + 17]
                )
        torch.testing.assert_close(view.double(), expected, rtol=0, atol=1e-5)
    # torchvision's kernel of the same support
    torch.testing.assert_close(
        own[3], TF.gaussian_blur(images[3], 13, 2.0), rtol=0, atol=1e-5
    )


def test_blur_of_small_views_and_flat_ones():
    flat = torch.full((2, 3, 4, 5), 0.3)
    blurred = gaussian_blur(flat, torch.tensor([0.5, 2.0]))
    torch.testing.assert_close(blurred, flat)


# --- recipes ----------------------------------------------------------------


def test_probabilities_of_a_recipe():
    n = 3000
    images = torch.rand(1, 3, 6, 6).repeat(n, 1, 1, 1)
    full = dict(scale=(1, 1), ratio=(1, 1))

    def share(changed, **kwargs):
        recipe = ViewRecipe(num=1, size=6, **{**full, **PLAIN, **kwargs})
        view = recipe(images)
        assert view.shape == (n, 3, 6, 6)
        return changed(view).float().mean().item()

    def differs(other):
        return lambda view: (view - other).abs().amax((1, 2, 3)) > 1e-3

    assert share(differs(images)) == 0
    flipped = share(differs(images), flip=0.5)
    assert flipped == pytest.approx(0.5, abs=0.04)
    assert share(differs(images.flip(3)), flip=1.0) == 0
    jittered = share(
        differs(images), jitter_prob=0.8, jitter=(0.8, 0.8, 0.8, 0.2)
    )
    assert jittered == pytest.approx(0.8, abs=0.04)
    greyed = share(
        lambda v: (v - v[:, :1]).abs().amax((1, 2, 3)) < 1e-5, grey_prob=0.2
    )
    assert greyed == pytest.approx(0.2, abs=0.04)
    blurred = share(differs(images), blur_prob=0.5, blur_sigma=(1, 2))
    assert blurred == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(num=0), 'num=0, size=8'),
        (dict(size=0), 'num=1, size=0'),
        (dict(scale=(0, 1)), r'scale=\(0, 1\): must be within \(0, 1\]'),
        (dict(scale=(0.5, 0.2)), 'rising'),
        (dict(scale=(0.5, 1.5)), 'scale'),
        (dict(ratio=(0, 1)), 'ratio=.*positive'),
        (dict(ratio=(2, 1)), 'ratio'),
        (dict(blur_sigma=(0, 1)), 'blur_sigma'),
        (dict(blur_sigma=(0.1, 3)), r'blur_sigma=\(0.1, 3\)'),
        (dict(jitter=(0.4, 0.4, 0.4)), 'give brightness'),
        (dict(jitter=(0.4, 0.4, 0.4, 0.6)), r'hue in \[0, 0.5\]'),
        (dict(jitter=(-0.4, 0.4, 0.4, 0.1)), '>= 0'),
        (dict(flip=1.5), 'flip=1.5: a probability'),
        (dict(jitter_prob=-0.1), 'jitter_prob=-0.1'),
        (dict(grey_prob=2), 'grey_prob=2'),
        (dict(blur_prob=-1), 'blur_prob=-1'),
    ],
)
def test_recipe_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ViewRecipe(**{'num': 1, 'size': 8, **kwargs})


# --- the preprocessor -------------------------------------------------------

VIEWS = [
    dict(num=2, size=8),
    dict(num=3, size=5, scale=(0.05, 0.14)),
]


def make(**kwargs):
    kwargs = {'views': VIEWS, 'mean': MEAN, 'std': STD, **kwargs}
    return MultiCropPreprocessor(**kwargs)


def batch(n=4, height=12, width=10):
    images = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8)
    return dict(inputs=images, data_samples=list(range(n)))


def test_views_of_a_batch():
    data = batch()
    before = data['inputs'].clone()
    out = make()(data, training=True)
    shapes = [tuple(view.shape) for view in out['inputs']]
    assert shapes == [(4, 3, 8, 8)] * 2 + [(4, 3, 5, 5)] * 3
    assert all(view.dtype == torch.float32 for view in out['inputs'])
    assert out['data_samples'] == [0, 1, 2, 3]
    assert torch.equal(data['inputs'], before)
    assert not torch.equal(out['inputs'][0], out['inputs'][1])
    # [0, 1] before normalisation
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    for view in out['inputs']:
        pixels = view * std + mean
        assert pixels.min() > -0.01 and pixels.max() < 255.01


def test_normalisation_and_channel_order():
    data = batch(height=8, width=8)
    recipe = dict(num=1, size=8, scale=(1, 1), ratio=(1, 1), **PLAIN)
    for to_rgb in (False, True):
        preprocessor = make(views=[recipe], to_rgb=to_rgb)
        (view,) = preprocessor(data, training=True)['inputs']
        expected = preprocessor(data, training=False)['inputs']
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-4)
        images = data['inputs'].float()
        images = images[:, [2, 1, 0]] if to_rgb else images
        by_hand = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
            STD
        ).view(3, 1, 1)
        torch.testing.assert_close(expected, by_hand)


def test_without_normalisation_pixels_are_fractions():
    recipe = dict(num=1, size=8, scale=(1, 1), ratio=(1, 1), **PLAIN)
    data = batch(height=8, width=8)
    (view,) = make(views=[recipe], mean=None, std=None)(data, training=True)[
        'inputs'
    ]
    torch.testing.assert_close(
        view, data['inputs'].float() / 255, rtol=0, atol=1e-5
    )


def test_evaluation_and_ready_views_are_only_normalised():
    data = batch()
    out = make()(data, training=False)
    reference = MODELS.build(
        dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD)
    )
    assert torch.equal(out['inputs'], reference(data, False)['inputs'])
    ready = dict(
        inputs=[data['inputs'], data['inputs'][..., :5]],
        data_samples=data['data_samples'],
    )
    out = make()(ready, training=True)
    for own, other in zip(
        out['inputs'], reference(ready, True)['inputs'], strict=True
    ):
        assert torch.equal(own, other)


def test_same_seed_same_views():
    data, preprocessor = batch(), make()
    runs = []
    for _ in range(2):
        torch.manual_seed(5)
        runs.append(preprocessor(data, training=True)['inputs'])
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)


def test_autocast_leaves_the_views_alone():
    """In bfloat16 a crop of 256 pixels would be off by half a pixel."""
    recipe = dict(num=1, size=32, jitter_prob=1.0, blur_prob=1.0)
    views = MultiCropPreprocessor(views=[recipe])
    images = torch.randint(0, 256, (4, 3, 256, 256), dtype=torch.uint8)
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            found += views(dict(inputs=images), True)['inputs']
    assert found[1].dtype == torch.float32
    assert torch.equal(*found)


def test_never_waits_for_the_device(host_waits):
    preprocessor, data = make(to_rgb=True), batch()
    with host_waits() as watch:
        preprocessor(data, training=True)
    assert not watch.found


def test_registered():
    module = MODELS.build(
        dict(type='MultiCropPreprocessor', views=VIEWS, mean=MEAN, std=STD)
    )
    assert isinstance(module, MultiCropPreprocessor)
    assert not module.state_dict()


def test_errors():
    with pytest.raises(ValueError, match='views is empty'):
        make(views=[])
    with pytest.raises(ValueError, match='scale'):
        make(views=[dict(num=1, size=8, scale=(0, 2))])
    preprocessor = make()
    with pytest.raises(ValueError, match=r'\(4, 12, 10\): expected \(N, 3'):
        preprocessor(
            dict(inputs=torch.zeros(4, 12, 10), data_samples=None), True
        )
    with pytest.raises(ValueError, match=r'\(4, 1, 8, 8\)'):
        preprocessor(
            dict(inputs=torch.zeros(4, 1, 8, 8), data_samples=None), True
        )
    with pytest.raises(ValueError, match='torch.float32: expected 8-bit'):
        preprocessor(
            dict(inputs=torch.zeros(4, 3, 8, 8), data_samples=None), True
        )
