"""STL-10, from the files of its authors."""

from pathlib import Path

import numpy as np
from mmpretrain.registry import DATASETS

from .array_dataset import ArrayDataset

SIDE = 96
CLASSES = (
    *('airplane', 'bird', 'car', 'cat', 'deer'),
    *('dog', 'horse', 'monkey', 'ship', 'truck'),
)


@DATASETS.register_module()
class STL10(ArrayDataset):
    """STL-10: 5,000 training and 8,000 test images, 96 px, RGB.

    Reads ``stl10_binary/{train,test}_{X,y}.bin`` of
    https://cs.stanford.edu/~acoates/stl10.

    Args:
        data_root (str): folder with ``stl10_binary``, or that itself.
        split (str): ``'train'`` or ``'test'``. Defaults to ``'train'``.
        **kwargs: of :class:`ArrayDataset`.

    Raises:
        ValueError: if the split is unknown, or the files do not fit.
        FileNotFoundError: if a file is missing.
    """

    METAINFO = dict(classes=CLASSES)

    def __init__(self, data_root: str, split: str = 'train', **kwargs) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split={split!r}: must be 'train' or 'test'")
        folder = Path(data_root).expanduser()
        if (folder / 'stl10_binary').is_dir():
            folder = folder / 'stl10_binary'
        files = [folder / f'{split}_{part}.bin' for part in 'Xy']
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(
                    f'data_root={data_root!r}: there is no {file}; unpack '
                    'stl10_binary.tar.gz of '
                    'https://cs.stanford.edu/~acoates/stl10 there'
                )
        pixels = np.memmap(files[0], dtype=np.uint8, mode='r')
        labels = np.fromfile(files[1], dtype=np.uint8).astype(np.int64) - 1
        if len(pixels) != len(labels) * 3 * SIDE**2:
            raise ValueError(
                f'{files[0]}: {len(pixels)} bytes are not the images of '
                f'{len(labels)} labels: it is cut short or of another set'
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < 10:
            raise ValueError(f'{files[1]}: labels must be 1 to 10')
        # channels, then columns, then rows
        images = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)
        self.split = split
        super().__init__(
            images=images, labels=labels, data_root=data_root, **kwargs
        )
