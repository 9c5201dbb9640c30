"""What a probe keeps of its input and of the label, while it trains."""

import os

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmpretrain.registry import DATASETS, HOOKS
from torch import nn
from torch.utils.data import Subset

from mmssd.evaluation.features import ImageBatches, extract_parts, unwrap
from mmssd.evaluation.mutual_information import mutual_information

from .knn_probe_hook import preserved_random_state
from .records import append_records, drop_later_records

FILE = 'information_plane.json'


class _Whole(nn.Module):
    """A classifier whose logits are taken for features."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone = model


@HOOKS.register_module()
class InformationPlaneHook(Hook):
    """Record I(X; T) and I(T; Y) of a classifier while it trains.

    T is the softmax of the logits of some labelled images, X the images and
    Y their classes; both values, in bits, are those of
    :func:`~mmssd.evaluation.mutual_information`. The information plane of
    `DisCo <https://arxiv.org/abs/2104.09124>`_, section 3.3: a linear probe
    of a frozen backbone, measured on 1000 training images after every
    iteration of its first epoch. For any model of mmpretrain that gives
    logits; the training itself is not touched.

    Goes to the log as ``information/i_xt`` and ``information/i_ty``, and as
    one line ``{"iter", "epoch", "i_xt", "i_ty"}`` into
    ``<work_dir>/information_plane.json``, with completed epochs as a
    fraction. ``tools/analysis/information_plane.py`` draws it. A resumed run
    appends after dropping lines later than its start.

    Args:
        images (dict): labelled data set. Its pipeline is an evaluation
            pipeline ending in ``PackInputs``.
        num_samples (int): images out of it, evenly spaced, so that a set
            sorted by class will do. Defaults to 1000, or all if there are
            fewer.
        bins (int): bins per class probability. Defaults to 30.
        interval (int): iterations between two measurements. Defaults to 1.
        epochs (float, optional): measure only in the first ones, ``None``
            for all. Defaults to 1.
        at_start (bool): also measure before the first iteration. Defaults
            to True.
        batch_size (int): images per batch. Defaults to 256.
        num_workers (int): processes that read. Defaults to 0.
        keep_images (bool): keep the images of the first measurement in
            memory. Defaults to True.

    Raises:
        ValueError: before the training, if a number is out of range or the
            set has no labels; in it, if the model gives no logits.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        images: dict,
        num_samples: int = 1000,
        bins: int = 30,
        interval: int = 1,
        epochs: float | None = 1,
        at_start: bool = True,
        batch_size: int = 256,
        num_workers: int = 0,
        keep_images: bool = True,
    ) -> None:
        for name, value in (
            ('num_samples', num_samples),
            ('bins', bins),
            ('interval', interval),
        ):
            if value < 1:
                raise ValueError(f'{name}={value}: must be at least 1')
        if epochs is not None and not epochs > 0:
            raise ValueError(f'epochs={epochs}: must be positive, or None')
        self.images = images
        self.num_samples = num_samples
        self.bins = bins
        self.interval = interval
        self.epochs = epochs
        self.at_start = at_start
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.keep_images = keep_images
        self._batches: ImageBatches | None = None

    def before_run(self, runner) -> None:
        """Build the set and check that it has labels."""
        if self._batches is not None:
            return
        with preserved_random_state():
            data = self.images
            if isinstance(data, dict):
                data = DATASETS.build(data)
            if not len(data) or 'gt_label' not in data[0]['data_samples']:
                raise ValueError(
                    f'InformationPlaneHook: the set ({type(data).__name__}) '
                    'has no images with labels (gt_label): give a labelled '
                    'set'
                )
        number = min(self.num_samples, len(data))
        chosen = np.arange(number) * len(data) // number
        self._batches = ImageBatches(
            Subset(data, chosen.tolist()),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            keep=self.keep_images,
        )

    def before_train(self, runner) -> None:
        """Cut the record to the past; measure the untrained probe."""
        if is_main_process():
            drop_later_records(self._path(runner), runner)
        if self.at_start and runner.iter == 0:
            self.measure(runner, 0)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Measure every ``interval`` iterations of the first epochs."""
        if self.due(runner):
            self.measure(runner, runner.iter + 1)

    def due(self, runner) -> bool:
        """Whether to measure after this iteration."""
        within = self.epochs is None or runner.iter + 1 <= self.epochs * len(
            runner.train_dataloader
        )
        return within and self.every_n_train_iters(runner, self.interval)

    @torch.no_grad()
    def measure(self, runner, iteration: int) -> tuple[float, float]:
        """Measure and record.

        Args:
            runner: the runner.
            iteration: number of completed iterations.

        Returns:
            I(X; T) and I(T; Y) in bits.
        """
        model = unwrap(runner.model)
        with preserved_random_state():
            outputs, labels = extract_parts(
                _Whole(model),
                self._batches,
                data_preprocessor=model.data_preprocessor,
            )
        logits = outputs['student']
        classes = getattr(getattr(model, 'head', None), 'num_classes', None)
        if classes is not None and logits.size(1) != classes:
            raise ValueError(
                f'InformationPlaneHook: outputs of width {logits.size(1)} '
                f'are no logits of the {classes} classes of the model'
            )
        i_xt, i_ty = mutual_information(
            logits.double().softmax(dim=1), labels, self.bins
        )
        scalars = {'information/i_xt': i_xt, 'information/i_ty': i_ty}
        for name, value in scalars.items():
            runner.message_hub.update_scalar(name, value)
        runner.visualizer.add_scalars(scalars, step=iteration)
        if is_main_process():
            epoch = iteration / len(runner.train_dataloader)
            record = dict(
                iter=iteration, epoch=round(epoch, 6), i_xt=i_xt, i_ty=i_ty
            )
            append_records(self._path(runner), [record])
        return i_xt, i_ty

    @staticmethod
    def _path(runner) -> str:
        return os.path.join(runner.work_dir, FILE)
