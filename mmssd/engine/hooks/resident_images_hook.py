"""Small data sets that stay on the device."""

import math
import os

import torch
from mmengine.hooks import Hook
from mmpretrain.registry import HOOKS

from mmssd.datasets.array_dataset import ArrayDataset
from mmssd.datasets.transforms.formatting import PackImage
from mmssd.evaluation.features import unwrap
from mmssd.models.utils.multi_crop_preprocessor import MultiCropPreprocessor
from mmssd.models.utils.plan import SetupError


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device, host memory for the CPU."""
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


@HOOKS.register_module()
class ResidentImagesHook(Hook):
    """Keep all training images on the device, so that only rows travel.

    For an :class:`~mmssd.datasets.ArrayDataset` whose pipeline is
    ``PackImage`` alone and views made by ``MultiCropPreprocessor``, inside
    :class:`~mmssd.datasets.SeededViews` or not: the loader then gives
    indices, and nothing is read, packed, collated or copied for an image.
    The views are those of the same run without the hook.

    A set that takes more than its share of the free memory stays where it
    is, which the log says.

    Args:
        share (float): of the free memory of the device that the images may
            take, in (0, 1]. Defaults to 0.5.

    Raises:
        ValueError: for a share out of range; before the training, if data
            set, preprocessor or loader are others than those above.
    """

    def __init__(self, share: float = 0.5) -> None:
        if not 0 < share <= 1:
            raise ValueError(f'share={share}: must be in (0, 1]')
        self.share = share

    def before_train(self, runner) -> None:
        """Move the images, or say why they stay."""
        loader = runner.train_dataloader
        dataset = loader.dataset
        dataset = getattr(dataset, 'dataset', dataset)
        preprocessor = unwrap(runner.model).data_preprocessor
        self._check(dataset, preprocessor, loader.num_workers)
        shape = (len(dataset), 3, *dataset.images.shape[1:3])
        size = math.prod(shape)
        device = preprocessor.device
        free = free_memory(device)
        if size > self.share * free:
            runner.logger.warning(
                f'the {len(dataset)} images take {size / 2**20:.0f} '
                f'MiB, more than {self.share:.0%} of the '
                f'{free / 2**20:.0f} MiB that {device} has left: they are '
                'loaded batch by batch as without ResidentImagesHook'
            )
            return
        pixels = torch.empty(shape, dtype=torch.uint8, device=device)
        start = 0
        for block in dataset.image_blocks():
            part = torch.from_numpy(block).permute(0, 3, 1, 2)
            pixels[start : start + len(block)] = part
            start += len(block)
        preprocessor.resident = pixels
        dataset.give_rows = True

    def after_train(self, runner) -> None:
        """Give the memory back."""
        dataset = runner.train_dataloader.dataset
        getattr(dataset, 'dataset', dataset).give_rows = False
        unwrap(runner.model).data_preprocessor.resident = None

    @staticmethod
    def _check(dataset: object, preprocessor: object, workers: int) -> None:
        problem = None
        if not isinstance(dataset, ArrayDataset):
            problem = f'the data set is {type(dataset).__name__}'
        elif [type(t) for t in dataset.pipeline.transforms] != [PackImage]:
            problem = 'the pipeline is not [PackImage]'
        elif not isinstance(preprocessor, MultiCropPreprocessor):
            problem = f'the preprocessor is {type(preprocessor).__name__}'
        elif workers:
            problem = f'num_workers={workers}, where nothing is to be read'
        if problem:
            raise SetupError(
                'ResidentImagesHook keeps an ArrayDataset with '
                'pipeline=[PackImage] on the device, for '
                f'MultiCropPreprocessor and num_workers=0; here {problem}: '
                'change that, or leave the hook out'
            )
