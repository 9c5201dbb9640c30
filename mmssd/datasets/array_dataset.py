"""Images that lie in one array."""

from collections.abc import Iterator

import numpy as np
import torch
from mmpretrain.datasets import BaseDataset


class ArrayDataset(BaseDataset):
    """A data set over one array of images and one of labels.

    Items have ``img`` ``(H, W, 3)`` uint8, ``img_shape``, ``ori_shape`` and
    ``gt_label``. Grey images get three equal channels.

    Args:
        images (np.ndarray): ``(N, H, W, 3)`` or ``(N, H, W)`` uint8, may be
            memory-mapped.
        labels (np.ndarray): ``(N,)`` integers.
        subset (float, optional): keep this fraction of every class, at
            least one image; the same ones wherever the ``seed`` is the same.
        seed (int): of the subset.
        per_class (int, optional): keep this number of images of every class
            instead, see :func:`~mmssd.evaluation.stratified_subset`.
        **kwargs: of mmpretrain's ``BaseDataset``, such as ``pipeline``.

    Raises:
        ValueError: if images and labels differ in number, the fraction is
            outside (0, 1], a class has fewer images than asked for, or both
            a fraction and a number are given.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        subset: float | None = None,
        seed: int = 0,
        per_class: int | None = None,
        **kwargs,
    ) -> None:
        if len(images) != len(labels):
            raise ValueError(f'{len(images)} images but {len(labels)} labels')
        if subset is not None and not 0 < subset <= 1:
            raise ValueError(f'subset={subset}: must be in (0, 1]')
        if subset is not None and per_class is not None:
            raise ValueError(
                f'subset={subset} and per_class={per_class}: give one of them'
            )
        self.images = images
        self.labels = labels
        self.subset = subset
        self.per_class = per_class
        self.seed = seed
        self.give_rows = False  # set where the images lie on the device
        super().__init__(ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """List row and label of every image of the subset."""
        rows = np.arange(len(self.labels))
        if self.subset is not None or self.per_class is not None:
            from mmssd.evaluation.linear_probe import stratified_subset

            rows = stratified_subset(
                self.labels, self.subset, self.per_class, self.seed
            )
        return [
            dict(row=row, gt_label=label)
            for row, label in zip(
                rows.tolist(), self.labels[rows].tolist(), strict=True
            )
        ]

    def get_data_info(self, idx: int) -> dict:
        """Return row, label and pixels of one image."""
        info = super().get_data_info(idx)
        image = np.array(self.images[info['row']])  # theirs to change
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        shape = image.shape[:2]
        return dict(info, img=image, img_shape=shape, ori_shape=shape)

    def prepare_data(self, idx: int) -> dict:
        """Run the pipeline; of images on the device, give the row."""
        if self.give_rows:
            return dict(inputs=torch.tensor(idx))
        return super().prepare_data(idx)

    def get_gt_labels(self) -> np.ndarray:
        """Return the ``(n,)`` labels of all items, in order."""
        return self.labels[self._rows()].astype(np.int64)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of one item, in a list."""
        return [super().get_data_info(idx)['gt_label']]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all items at once, without the pipeline.

        Returns:
            uint8 images ``(n, H, W, 3)`` and int64 labels ``(n,)`` in the
            order of the items. The images are the array itself, perhaps
            memory-mapped and read-only, unless a choice had to be copied.
        """
        rows = self._rows()
        images = self.images
        if len(rows) != len(images) or (np.diff(rows) != 1).any():
            images = images[rows]
        if images.ndim == 3:
            images = np.repeat(images[..., None], 3, axis=3)
        return images, self.get_gt_labels()

    def image_blocks(self, number: int = 1024) -> Iterator[np.ndarray]:
        """Go through the images of all items without a copy of the whole.

        Args:
            number: of images in a block.

        Yields:
            uint8 ``(n, H, W, 3)``, copies, in the order of the items.
        """
        rows = self._rows()
        for start in range(0, len(rows), number):
            images = np.asarray(self.images[rows[start : start + number]])
            if images.ndim == 3:
                images = np.repeat(images[..., None], 3, axis=3)
            yield images

    def _rows(self) -> np.ndarray:
        if not self._fully_initialized:
            self.full_init()
        return np.array(
            [
                super(ArrayDataset, self).get_data_info(i)['row']
                for i in range(len(self))
            ],
            dtype=np.int64,
        )

    def extra_repr(self) -> list[str]:
        """Say where the images are from."""
        subset = self.subset
        if self.per_class is not None:
            subset = f'{self.per_class} per class'
        return [f'Folder: \t{self.data_root}', f'Subset: \t{subset}']
