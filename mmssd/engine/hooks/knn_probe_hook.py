"""k-NN accuracy of the features while they are trained."""

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.dist import all_reduce, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmpretrain.registry import DATASETS, HOOKS
from torch import Tensor

from mmssd.evaluation.features import (
    PARTS,
    ImageBatches,
    check_classes,
    extract_parts,
    get_backbone,
    unwrap,
)
from mmssd.evaluation.knn import knn_classify

from .records import append_records, drop_later_records


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the random states of torch, numpy and Python on leaving."""
    devices = []
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        devices = [torch.cuda.current_device()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@HOOKS.register_module()
class KNNProbeHook(Hook):
    """Measure how well nearest neighbours classify, during training.

    Works in any config of mmpretrain whose model has a ``backbone``: pooled
    backbone features of the ``query`` set are classified by those of the
    ``bank`` set, see :func:`~mmssd.evaluation.knn_classify`. The training
    itself is not touched: modes and random states are as before, so a run
    with the probe computes bit for bit what it would without.

    The top-1 accuracy, in percent, goes to the log, to the message hub and
    the visualizer as ``knn/<part>_top1``, and as one line ``{"iter", "epoch",
    "part", "top1", "seconds"}`` into ``<work_dir>/knn.json``. A resumed run
    appends to that file after dropping lines later than its start.

    Args:
        bank (dict): data set of the labelled neighbours, or a data loader
            config of which ``dataset``, ``batch_size`` and ``num_workers``
            count. Its pipeline is an evaluation pipeline ending in
            ``PackInputs``.
        query (dict): likewise, the images to classify.
        interval (int): epochs or iterations between two probes. There is
            always one after the last. Defaults to 1.
        by_epoch (bool): count in epochs. Defaults to True.
        parts (Sequence[str], optional): networks to probe, out of
            ``'student'``, ``'teacher'``, ``'momentum'``. By default student
            and teacher, as far as there are.
        k (int): number of neighbours. Defaults to 20.
        temperature (float, optional): of the vote, ``None`` for unweighted.
            Defaults to 0.07.
        at_start (bool): also probe before the first iteration. Defaults to
            False.
        keep_images (bool): keep the preprocessed images of the first probe
            in memory. For small sets. Defaults to False.
        batch_size (int): images per batch, where the data set is not given
            as a loader. Defaults to 256.
        num_workers (int): likewise. Defaults to 0.

    Raises:
        ValueError: before the training, if an interval, part or k is out of
            range, a set has no labels, the sets number their classes
            differently, or the model lacks the part.
    """

    # after the health check, before the logger and the checkpoint
    priority = 'NORMAL'

    def __init__(
        self,
        bank: dict,
        query: dict,
        interval: int = 1,
        by_epoch: bool = True,
        parts: Sequence[str] | None = None,
        k: int = 20,
        temperature: float | None = 0.07,
        at_start: bool = False,
        keep_images: bool = False,
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval={interval}: must be at least 1')
        if k < 1:
            raise ValueError(f'k={k}: must be at least 1')
        if temperature is not None and not temperature > 0:
            raise ValueError(
                f'temperature={temperature}: must be positive, or None'
            )
        if isinstance(parts, str):
            parts = (parts,)
        for part in parts or ():
            if part not in PARTS:
                raise ValueError(f'part {part!r}: must be one of {PARTS}')
        self.bank = bank
        self.query = query
        self.interval = interval
        self.by_epoch = by_epoch
        self.parts = parts
        self.k = k
        self.temperature = temperature
        self.at_start = at_start
        self.keep_images = keep_images
        self.batch_size = batch_size
        self.num_workers = num_workers
        self._sets: dict[str, ImageBatches] | None = None

    def _build(self, name: str, config: dict) -> ImageBatches:
        batch_size, num_workers = self.batch_size, self.num_workers
        if 'dataset' in config and 'type' not in config:
            batch_size = config.get('batch_size', batch_size)
            num_workers = config.get('num_workers', num_workers)
            config = config['dataset']
        dataset = (
            DATASETS.build(config) if isinstance(config, dict) else config
        )
        if not len(dataset):
            raise ValueError(f'KNNProbeHook: the {name} set has no images')
        if hasattr(dataset, 'get_data_info'):
            labelled = 'gt_label' in dataset.get_data_info(0)
        else:
            labelled = 'gt_label' in dataset[0]['data_samples']
        if not labelled:
            raise ValueError(
                f'KNNProbeHook: the {name} set ({type(dataset).__name__}) has '
                'no labels (gt_label): give a labelled set, or leave the '
                'hook out'
            )
        return ImageBatches(
            dataset,
            batch_size=batch_size,
            num_workers=num_workers,
            keep=self.keep_images,
        )

    def before_run(self, runner) -> None:
        """Build the sets and check that there is what the probe needs."""
        if self.parts is None:
            teacher = getattr(unwrap(runner.model), 'teacher', None)
            self.parts = ('student',) + ('teacher',) * (teacher is not None)
        for part in self.parts:
            get_backbone(runner.model, part)
        if self._sets is None:
            with preserved_random_state():
                self._sets = {
                    'bank': self._build('bank', self.bank),
                    'query': self._build('query', self.query),
                }
            check_classes({n: s.data for n, s in self._sets.items()})
        rows = len(self._sets['bank'].data)
        if self.k > rows:
            raise ValueError(
                f'KNNProbeHook: k={self.k}, but the bank has only {rows} '
                'images'
            )

    def before_train(self, runner) -> None:
        """Cut the record to the past; probe the untrained network."""
        if is_main_process():
            drop_later_records(self._record_path(runner), runner)
        if self.at_start and runner.iter == 0:
            self.probe(runner, iteration=0, epoch=0)

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Probe every ``interval`` iterations and after the last."""
        if self.due(runner):
            self.probe(runner, runner.iter + 1, runner.epoch + 1)

    def due(self, runner) -> bool:
        """Whether to probe after this iteration."""
        return not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval)
            or self.is_last_train_iter(runner)
        )

    def after_train_epoch(self, runner) -> None:
        """Probe every ``interval`` epochs and after the last."""
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval)
            or self.is_last_train_epoch(runner)
        ):
            # the loop has counted the iteration already
            self.probe(runner, runner.iter, runner.epoch + 1)

    def probe(self, runner, iteration: int, epoch: int) -> dict[str, float]:
        """Measure and record all parts.

        Args:
            runner: the runner.
            iteration: number of completed iterations.
            epoch: number of the epoch that is running or just completed,
                from 1.

        Returns:
            Top-1 accuracy in percent by part.
        """
        start = time.perf_counter()
        with preserved_random_state():
            bank, bank_labels = extract_parts(
                runner.model, self._sets['bank'], self.parts
            )
            query, query_labels = extract_parts(
                runner.model, self._sets['query'], self.parts
            )
            device = next(runner.model.parameters()).device
            accuracy = {
                part: self._accuracy(
                    bank[part].to(device),
                    bank_labels,
                    query[part].to(device),
                    query_labels,
                )
                for part in self.parts
            }
        seconds = time.perf_counter() - start
        scalars = {f'knn/{part}_top1': top1 for part, top1 in accuracy.items()}
        for name, value in scalars.items():
            runner.message_hub.update_scalar(name, value)
        runner.visualizer.add_scalars(scalars, step=iteration)
        shown = ', '.join(f'{p} {top1:.2f}' for p, top1 in accuracy.items())
        runner.logger.info(
            f'k-NN top-1 (k={self.k}) after {iteration} iterations: {shown} '
            f'({seconds:.1f} s)'
        )
        if is_main_process():
            records = [
                dict(
                    iter=iteration,
                    epoch=epoch,
                    part=part,
                    top1=top1,
                    seconds=round(seconds, 3),
                )
                for part, top1 in accuracy.items()
            ]
            append_records(self._record_path(runner), records)
        return accuracy

    def _accuracy(
        self, bank: Tensor, bank_labels: Tensor, query: Tensor, labels: Tensor
    ) -> float:
        """Each process classifies its share of the queries."""
        rank, world_size = get_dist_info()
        guess = knn_classify(
            bank,
            bank_labels,
            query[rank::world_size],
            self.k,
            self.temperature,
        ).argmax(dim=1)
        right = (guess.cpu() == labels[rank::world_size]).sum()
        all_reduce(right)
        return 100.0 * right.item() / len(labels)

    @staticmethod
    def _record_path(runner) -> str:
        return os.path.join(runner.work_dir, 'knn.json')
