"""How a network's input is normalised, and how to get from one to another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

ORDERS = ('RGB', 'BGR')
CHANNELS = 3


@dataclass(frozen=True)
class InputStatistics:
    """Normalisation ``(pixels - mean) / std`` of pixels in 0 to 255.

    Args:
        mean: of each channel, in the order of ``channel_order``.
        std: likewise.
        channel_order: ``'RGB'``, ``'BGR'``, or ``None`` if it is not known.

    Raises:
        ValueError: unless there are three finite numbers of each, and every
            std is above 0; for values of pixels in 0 to 1; for an unknown
            order.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channel_order: str | None = None

    def __post_init__(self) -> None:
        for name in ('mean', 'std'):
            given = getattr(self, name)
            if not isinstance(given, Sequence) or len(given) != CHANNELS:
                raise ValueError(
                    f'{name}={given!r}: give {CHANNELS} numbers, one for each '
                    'channel'
                )
            values = tuple(float(value) for value in given)
            if not all(abs(value) < float('inf') for value in values):
                raise ValueError(f'{name}={given!r}: not finite')
            object.__setattr__(self, name, values)
        if min(self.std) <= 0:
            raise ValueError(f'std={self.std}: must be above 0')
        if max(self.mean) <= 1 and max(self.std) < 1:
            raise ValueError(
                f'mean={self.mean}, std={self.std} are of pixels in 0 to 1: '
                'multiply them by 255, as in the data preprocessor'
            )
        if self.channel_order not in (None, *ORDERS):
            raise ValueError(
                f'channel_order={self.channel_order!r}: must be one of '
                f'{ORDERS}, or None'
            )

    def flipped(self) -> 'InputStatistics':
        """Return the same normalisation of the other channel order."""
        other = None
        if self.channel_order is not None:
            other = ORDERS[1 - ORDERS.index(self.channel_order)]
        return InputStatistics(self.mean[::-1], self.std[::-1], other)

    def agrees(self, other: 'InputStatistics') -> bool:
        """Whether two are the same, as far as their order is known.

        Products such as 0.485 x 255 agree with their rounded values.
        """
        orders = {self.channel_order, other.channel_order} - {None}
        return len(orders) < 2 and all(
            math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-6)
            for a, b in zip(
                self.mean + self.std, other.mean + other.std, strict=True
            )
        )

    @classmethod
    def of_unit_pixels(
        cls, mean: Sequence[float], std: Sequence[float]
    ) -> 'InputStatistics':
        """Return those of RGB pixels in 0 to 1, as other libraries say it."""
        mean, std = (
            tuple(round(255 * value, 6) for value in values)
            for values in (mean, std)
        )
        return cls(mean, std, 'RGB')


IMAGENET = InputStatistics.of_unit_pixels(
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
)
# the code of SwAV divides red by 0.228
SWAV = InputStatistics.of_unit_pixels(
    (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)
)


def input_statistics(
    data_preprocessor: Mapping | nn.Module | None,
) -> InputStatistics | None:
    """Return how a data preprocessor normalises.

    Its conversion tells the channel order: ``to_rgb`` and ``bgr_to_rgb`` of
    images that mmcv loaded as BGR, ``rgb_to_bgr`` of others. Without one the
    order is not known: data sets may give either. A built module no longer
    says which conversion it does; it is taken for one to RGB.

    Args:
        data_preprocessor: one of mmengine, mmpretrain or ours, or its
            config.

    Returns:
        ``None`` if it does not normalise, or not in a way that can be told.
    """
    if isinstance(data_preprocessor, Mapping):
        mean, std = (data_preprocessor.get(key) for key in ('mean', 'std'))
        if mean is None or std is None:
            return None
        get = data_preprocessor.get
        order = 'BGR' if get('rgb_to_bgr') else None
        order = 'RGB' if get('to_rgb') or get('bgr_to_rgb') else order
        return _repeat(mean, std, order)
    normalises = getattr(data_preprocessor, '_enable_normalize', False)
    if normalises and not data_preprocessor.mean.is_meta:
        # the first of self-supervised models, the second of classifiers
        converts = getattr(
            data_preprocessor, '_channel_conversion', False
        ) or getattr(data_preprocessor, 'to_rgb', False)
        return _repeat(
            data_preprocessor.mean.flatten().tolist(),
            data_preprocessor.std.flatten().tolist(),
            'RGB' if converts else None,
        )
    return None


def _repeat(
    mean: Sequence, std: Sequence, order: str | None
) -> InputStatistics:
    # one number stands for all channels
    mean, std = (
        tuple(values) * CHANNELS if len(values) == 1 else tuple(values)
        for values in (mean, std)
    )
    return InputStatistics(mean, std, order)


def renormalise(
    source: InputStatistics, target: InputStatistics
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    r"""Return the affine map between two normalisations of one order.

    From :math:`x = (p - \mu_s) / \sigma_s` of pixels :math:`p`,

    .. math:: \frac{p - \mu_t}{\sigma_t}
        = x \frac{\sigma_s}{\sigma_t} + \frac{\mu_s - \mu_t}{\sigma_t}.

    Args:
        source: normalisation of x.
        target: normalisation wanted, of the same channel order.

    Returns:
        Scale and shift of each channel.
    """
    scale = tuple(s / t for s, t in zip(source.std, target.std, strict=True))
    shift = tuple(
        (s - t) / std
        for s, t, std in zip(source.mean, target.mean, target.std, strict=True)
    )
    return scale, shift
