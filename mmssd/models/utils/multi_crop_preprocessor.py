"""Views made in one batch on the device.

Shape legend: N images, V views, H, W size of the source images, S size of
a view.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models.utils.data_preprocessor import SelfSupDataPreprocessor
from mmpretrain.registry import MODELS
from torch import Tensor

from .view_draws import GlobalDraws, SeededDraws, view_keys

CROP_ATTEMPTS = 10  # as torchvision's RandomResizedCrop
GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL and torchvision


def random_boxes(
    num: int,
    height: int,
    width: int,
    scale: Sequence[float],
    ratio: Sequence[float],
    device: torch.device | None = None,
    draws: GlobalDraws | SeededDraws | None = None,
) -> Tensor:
    """Draw crop boxes as torchvision's ``RandomResizedCrop`` does.

    Area uniform in ``scale`` (fraction of the image), aspect ratio
    log-uniform in ``ratio``, place uniform; the first of ten draws that
    fits counts, else the largest centred box. Boxes are not rounded to
    pixels.

    Returns:
        ``(num, 4)``: left, top, width, height in pixels.
    """
    draws = draws or GlobalDraws(device)
    shape = (CROP_ATTEMPTS, num)
    area = draws.uniform(shape, *scale)
    area = area * height * width
    log_ratio = draws.uniform(shape, math.log(ratio[0]), math.log(ratio[1]))
    w = (area * log_ratio.exp()).sqrt()
    h = (area / log_ratio.exp()).sqrt()
    fits = (w <= width) & (h <= height)
    first = fits.int().argmax(dim=0, keepdim=True)
    w, h = w.gather(0, first)[0], h.gather(0, first)[0]
    whole = ~fits.any(dim=0)
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w = torch.where(whole, min(width, height * aspect), w)
    h = torch.where(whole, min(height, width / aspect), h)
    left = draws.uniform((num,)).where(~whole, 0.5) * (width - w)
    top = draws.uniform((num,)).where(~whole, 0.5) * (height - h)
    return torch.stack([left, top, w, h], dim=1)


def crop_resize(
    images: Tensor, boxes: Tensor, size: int, flip: Tensor | None = None
) -> Tensor:
    """Cut one box out of every image and resize it, bilinearly.

    When the source is much larger than the view, the box is sampled more
    densely and averaged, which keeps fine texture from aliasing.

    Args:
        images: ``(N, C, H, W)`` floats.
        boxes: ``(N, 4)`` left, top, width, height in pixels.
        size: side S of the result.
        flip: ``(N,)`` booleans, mirrored left to right where true.

    Returns:
        ``(N, C, S, S)``.
    """
    n, _, height, width = images.shape
    left, top, w, h = boxes.unbind(1)
    zoom_x, zoom_y = w / width, h / height
    mirror = 1.0 if flip is None else 1.0 - 2.0 * flip.to(images.dtype)
    theta = images.new_zeros(n, 2, 3)
    theta[:, 0, 0] = zoom_x * mirror
    theta[:, 0, 2] = (2 * left + w) / width - 1
    theta[:, 1, 1] = zoom_y
    theta[:, 1, 2] = (2 * top + h) / height - 1
    dense = max(1, round(min(height, width) / size / 1.5))
    grid = F.affine_grid(
        theta, [n, 1, size * dense, size * dense], align_corners=False
    )
    views = F.grid_sample(
        images, grid, padding_mode='border', align_corners=False
    )
    return F.avg_pool2d(views, dense) if dense > 1 else views


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (other + factor * (images - other)).clamp_(0, 1)


def to_grey(images: Tensor) -> Tensor:
    """Return the luma of ``(N, 3, H, W)`` RGB images, ``(N, 1, H, W)``."""
    # numbers, not a tensor of them: copying one would wait for the device
    parts = images.split(1, dim=1)
    return sum(part * weight for part, weight in zip(parts, GREY, strict=True))


def shift_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of RGB images in [0, 1].

    Args:
        images: ``(N, 3, H, W)``.
        shift: ``(N,)`` turns, in [-0.5, 0.5].
    """
    r, g, b = images.unbind(1)
    # by pairs: reductions over three channels are slow
    value = torch.maximum(torch.maximum(r, g), b)
    chroma = value - torch.minimum(torch.minimum(r, g), b)
    red, green = r == value, g == value
    hue = torch.where(red, g - b, torch.where(green, b - r, r - g))
    hue = hue.div_(chroma.clamp_min(1e-8))
    hue += torch.where(red, 0.0, torch.where(green, 2.0, 4.0))
    hue += 6 * shift.view(-1, 1, 1)
    # HSV to RGB in closed form: f(n) = v - c max(0, min(k, 4 - k, 1)) with
    # k = n + hue modulo 6, and min(k, 4 - k) = 2 - |k - 2|
    offsets = torch.arange(5, 0, -2, device=images.device)  # 5, 3, 1
    k = (offsets.view(1, 3, 1, 1) + hue[:, None]).remainder_(6)
    ramp = k.sub_(2).abs_().neg_().add_(2).clamp_(0, 1)
    return torch.addcmul(value[:, None], chroma[:, None], ramp, value=-1)


def color_jitter(
    images: Tensor,
    strengths: Sequence[float],
    order: Sequence[int],
    draws: GlobalDraws | SeededDraws | None = None,
) -> Tensor:
    """Jitter each image by its own factors.

    Brightness, contrast and saturation factors are uniform in
    ``[max(0, 1 - s), 1 + s]``, the hue shift in ``[-h, h]`` turns, as in
    torchvision's ``ColorJitter``; the four run in ``order``.

    Args:
        images: ``(N, 3, H, W)`` RGB in [0, 1].
        strengths: brightness, contrast, saturation, hue.
        order: a permutation of 0..3.
        draws: source of the factors; torch's generators by default.
    """
    draws = draws or GlobalDraws(images.device)
    factors = _draw_factors(len(images), strengths, order, draws)
    return _apply_jitter(images, strengths, order, factors)


def _draw_factors(
    number: int,
    strengths: Sequence[float],
    order: Sequence[int],
    draws: GlobalDraws | SeededDraws,
) -> dict[int, Tensor]:
    """A number in [0, 1) for each image and jitter that does something."""
    return {
        kind: draws.uniform((number,)) for kind in order if strengths[kind]
    }


def _apply_jitter(
    images: Tensor,
    strengths: Sequence[float],
    order: Sequence[int],
    factors: dict[int, Tensor],
) -> Tensor:
    for kind in order:
        strength = strengths[kind]
        if not strength:
            continue
        draw = factors[kind]
        if kind == 3:
            images = shift_hue(images, (2 * draw - 1) * strength)
            continue
        low = max(0.0, 1 - strength)
        factor = low + draw * (1 + strength - low)
        if kind == 0:
            images = (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)
            continue
        grey = to_grey(images)
        if kind == 1:
            grey = grey.mean(dim=(2, 3), keepdim=True)
        images = _blend(images, grey, factor)
    return images


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by its own Gaussian.

    Args:
        images: ``(N, C, H, W)``.
        sigma: ``(N,)`` standard deviations in pixels, cut at three of the
            largest.
    """
    n, c, height, width = images.shape
    radius = min(6, height - 1, width - 1)
    x = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (x / sigma.view(-1, 1)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images.dtype)
    kernel = kernel.repeat_interleave(c, dim=0)[:, None]  # (NC, 1, 2R + 1)
    flat = images.reshape(1, n * c, height, width)
    flat = F.pad(flat, [radius] * 4, mode='reflect')
    flat = F.conv2d(flat, kernel[:, :, None], groups=n * c)
    flat = F.conv2d(flat, kernel[..., None], groups=n * c)
    return flat.view(n, c, height, width)


class ViewRecipe:
    """How the views of one size are made.

    Args:
        num (int): how many views.
        size (int): side of a view in pixels.
        scale (Sequence[float]): area of the crop, fraction of the image.
        ratio (Sequence[float]): aspect ratios, log-uniform.
        flip (float): probability of a mirror image.
        jitter (Sequence[float]): brightness, contrast, saturation, hue.
        jitter_prob, grey_prob, blur_prob (float): probabilities.
        blur_sigma (Sequence[float]): uniform range in pixels of the view.

    Raises:
        ValueError: for a value out of range, with its name.
    """

    def __init__(
        self,
        num: int,
        size: int,
        scale: Sequence[float] = (0.14, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        jitter: Sequence[float] = (0.8, 0.8, 0.8, 0.2),
        jitter_prob: float = 0.8,
        grey_prob: float = 0.2,
        blur_prob: float = 0.5,
        blur_sigma: Sequence[float] = (0.1, 2.0),
    ) -> None:
        if num < 1 or size < 1:
            raise ValueError(f'num={num}, size={size}: both must be >= 1')
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f'scale={scale}: must be within (0, 1], rising')
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f'ratio={ratio}: must be positive and rising')
        if not 0 < blur_sigma[0] <= blur_sigma[1] <= 2:
            # the kernel is cut at 6 pixels
            raise ValueError(f'blur_sigma={blur_sigma}: must be in (0, 2]')
        if len(jitter) != 4 or min(jitter) < 0 or jitter[3] > 0.5:
            raise ValueError(
                f'jitter={jitter}: give brightness, contrast, saturation '
                '>= 0 and hue in [0, 0.5]'
            )
        for name, value in (
            ('flip', flip),
            ('jitter_prob', jitter_prob),
            ('grey_prob', grey_prob),
            ('blur_prob', blur_prob),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f'{name}={value}: a probability is in [0, 1]')
        self.num = num
        self.size = size
        self.scale = scale
        self.ratio = ratio
        self.flip = flip
        self.jitter = jitter
        self.jitter_prob = jitter_prob
        self.grey_prob = grey_prob
        self.blur_prob = blur_prob
        self.blur_sigma = blur_sigma

    def __call__(
        self,
        images: Tensor,
        draws: GlobalDraws | SeededDraws | None = None,
    ) -> Tensor:
        """Make one view ``(N, 3, S, S)`` of ``(N, 3, H, W)`` RGB in [0, 1].

        The order of the jitters is drawn once a call, all other parameters
        once an image; of seeded draws, the order, too.

        Args:
            images: the batch.
            draws: source of random numbers; torch's generators by default.
        """
        n, _, height, width = images.shape
        draws = draws or GlobalDraws(images.device)

        def chosen(probability: float) -> Tensor:
            return draws.uniform((n,)) < probability

        boxes = random_boxes(
            n, height, width, self.scale, self.ratio, draws=draws
        )
        view = crop_resize(images, boxes, self.size, chosen(self.flip))
        if self.jitter_prob and any(self.jitter):
            jittered = self._jitter(view, draws)
            view = torch.where(
                chosen(self.jitter_prob).view(-1, 1, 1, 1), jittered, view
            )
        if self.grey_prob:
            grey = chosen(self.grey_prob).view(-1, 1, 1, 1)
            view = torch.where(grey, to_grey(view), view)
        if self.blur_prob:
            sigma = draws.uniform((n,), *self.blur_sigma)
            blurred = gaussian_blur(view, sigma)
            blur = chosen(self.blur_prob).view(-1, 1, 1, 1)
            view = torch.where(blur, blurred, view)
        return view

    def _jitter(
        self, view: Tensor, draws: GlobalDraws | SeededDraws
    ) -> Tensor:
        """Jitter images, those of one order at a time."""
        orders = draws.orders(4)
        if orders[0][1] is None:
            return color_jitter(view, self.jitter, orders[0][0], draws)
        factors = _draw_factors(len(view), self.jitter, range(4), draws)
        result = torch.empty_like(view)
        for order, index in orders:
            rows = {kind: values[index] for kind, values in factors.items()}
            jittered = _apply_jitter(view[index], self.jitter, order, rows)
            result.index_copy_(0, index, jittered)
        return result


@MODELS.register_module()
class MultiCropPreprocessor(SelfSupDataPreprocessor):
    """Make all views of a batch on the device, then normalise them.

    For images that fit the device whole, such as small data sets: one
    batched crop, jitter, grey and blur instead of hundreds of small calls.
    The distributions are those of torchvision's transforms; only the order
    of the four colour jitters is shared by the images of a batch.

    In evaluation, and when the data come as a list of ready views, it only
    normalises, as ``SelfSupDataPreprocessor``. Images of
    :class:`~mmssd.datasets.SeededViews` get the views of their draw: of
    the same distributions, the same whenever the draw comes up, and with an
    order of jitters of their own.

    Args:
        views (Sequence[dict]): one :class:`ViewRecipe` per size, global
            crops first.
        **kwargs: ``mean``, ``std`` (0 to 255), ``to_rgb`` and others of
            ``SelfSupDataPreprocessor``; ``non_blocking`` is true by default.

    Raises:
        ValueError: for a recipe value out of range, or images that are not
            three-channel 8-bit.
    """

    def __init__(self, views: Sequence[dict], **kwargs) -> None:
        kwargs.setdefault('non_blocking', True)
        super().__init__(**kwargs)
        if not views:
            raise ValueError('views is empty: give at least one recipe')
        self.recipes = [ViewRecipe(**recipe) for recipe in views]
        # of ResidentImagesHook: all images, whose rows the inputs then are
        self.resident: Tensor | None = None

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return ``dict(inputs=list of views, data_samples=...)``.

        Args:
            data: ``inputs`` is a ``(N, 3, H, W)`` uint8 batch, or ``(N,)``
                rows of the resident images.
            training: make views; otherwise normalise only.
        """
        if not training or isinstance(data['inputs'], (list, tuple)):
            return super().forward(data, training)
        samples = data.get('data_samples')
        keys = view_keys(samples)  # on the host
        images = self.cast_data(data['inputs'])
        if self.resident is not None and images.dim() == 1:
            images = self.resident[images]
        if images.dim() != 4 or images.size(1) != 3:
            raise ValueError(
                f'inputs of shape {tuple(images.shape)}: expected (N, 3, H, W)'
            )
        if images.dtype != torch.uint8:
            raise ValueError(
                f'inputs of type {images.dtype}: expected 8-bit images, '
                'before any normalisation'
            )
        if self._channel_conversion:
            images = images.flip(1)
        images = images.float() / 255
        draws = (
            GlobalDraws(images.device)
            if keys is None
            else SeededDraws(keys, images.device)
        )
        # crop and blur multiply: under autocast a crop of a large image would
        # be half a pixel off, and not the view that a teacher cache saw
        with torch.autocast(images.device.type, enabled=False):
            views = [
                recipe(images, draws)
                for recipe in self.recipes
                for _ in range(recipe.num)
            ]
        if self._enable_normalize:
            views = [(v * 255 - self.mean) / self.std for v in views]
        if keys is None or not isinstance(samples, Tensor):
            samples = self.cast_data(samples)
        return {'inputs': views, 'data_samples': samples}
