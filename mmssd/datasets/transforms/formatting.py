"""Handing images over to the model."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackImage(BaseTransform):
    """Keep nothing of an item but its pixels, as a tensor.

    For training without labels whose views are made on the device: a
    ``DataSample`` per image would cost more than the image.

    Required key: ``img`` ``(H, W, 3)``. Added key: ``inputs``, a uint8
    tensor ``(3, H, W)``. Everything else is dropped.
    """

    def transform(self, results: dict) -> dict:
        """Return ``dict(inputs=tensor)``."""
        image = np.ascontiguousarray(results['img'].transpose(2, 0, 1))
        return dict(inputs=torch.from_numpy(image))
