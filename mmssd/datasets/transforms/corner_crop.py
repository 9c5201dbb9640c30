"""Crops at fixed places."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS

# fraction of the free height and width above and left of the crop
PLACES = {
    'top_left': (0.0, 0.0),
    'top_right': (0.0, 1.0),
    'bottom_left': (1.0, 0.0),
    'bottom_right': (1.0, 1.0),
    'center': (0.5, 0.5),
}


@TRANSFORMS.register_module()
class CornerCrop(BaseTransform):
    """Cut a crop out of a corner or the centre of an image.

    The five places and their flips are the ten crops of testing, see
    :func:`mmssd.apis.tta.ten_crop_pipeline`.

    Required and modified key: ``img`` ``(H, W[, C])``; modified key:
    ``img_shape``.

    Args:
        crop_size (int | tuple[int, int]): side, or width and height, in
            pixels.
        place (str): ``'top_left'``, ``'top_right'``, ``'bottom_left'``,
            ``'bottom_right'`` or ``'center'``.

    Raises:
        ValueError: for a size that is not positive or an unknown place; in
            use, for a crop larger than the image.
    """

    def __init__(
        self, crop_size: int | tuple[int, int], place: str = 'center'
    ) -> None:
        if isinstance(crop_size, int):
            crop_size = (crop_size, crop_size)
        if len(crop_size) != 2 or min(crop_size) < 1:
            raise ValueError(
                f'crop_size={crop_size}: must be one or two sides >= 1'
            )
        if place not in PLACES:
            raise ValueError(
                f'place={place!r}: must be one of {sorted(PLACES)}'
            )
        self.crop_size = tuple(crop_size)
        self.place = place

    def transform(self, results: dict) -> dict:
        """Crop the image.

        Args:
            results (dict): of the pipeline.

        Returns:
            dict: the same, with the crop.
        """
        image: np.ndarray = results['img']
        width, height = self.crop_size
        free = image.shape[0] - height, image.shape[1] - width
        if min(free) < 0:
            raise ValueError(
                f'{results.get("img_path", "image")}: a crop of {height} x '
                f'{width} pixels (height x width) does not fit into its '
                f'{image.shape[0]} x {image.shape[1]}: resize it to more '
                'before (ResizeEdge), or lower crop_size'
            )
        top, left = (
            round(f * s) for f, s in zip(PLACES[self.place], free, strict=True)
        )
        results['img'] = image[top : top + height, left : left + width]
        results['img_shape'] = (height, width)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(crop_size={self.crop_size}, '
            f'place={self.place!r})'
        )
