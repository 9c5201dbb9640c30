"""Hooks of linear probes."""

import hashlib

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, HOOKS

from mmssd.evaluation.features import extract_features, unwrap

LISTED = 5  # keys in an error


@HOOKS.register_module()
class FrozenBackboneHook(Hook):
    """Check that a frozen backbone stays what it was, bit by bit.

    Compares the SHA-256 of every parameter and buffer before the training
    with that after each epoch and at the end.
    """

    def before_train(self, runner: Runner) -> None:
        """Remember the backbone, after it was loaded."""
        self.before = self._digests(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Compare.

        Raises:
            RuntimeError: naming the tensors that changed.
        """
        self._compare(runner)

    def after_train(self, runner: Runner) -> None:
        """Compare, and say so.

        Raises:
            RuntimeError: naming the tensors that changed.
        """
        self._compare(runner)
        runner.logger.info(
            f'the frozen backbone is unchanged: {len(self.before)} tensors'
        )

    def _compare(self, runner: Runner) -> None:
        now = self._digests(runner)
        changed = [key for key in now if now[key] != self.before.get(key)]
        if changed:
            raise RuntimeError(
                f'{len(changed)} tensors of the frozen backbone changed in '
                f'training: {", ".join(changed[:LISTED])}: use '
                "type='FrozenClassifier', which keeps it in evaluation mode"
            )

    @staticmethod
    def _digests(runner: Runner) -> dict[str, str]:
        backbone = unwrap(runner.model).backbone
        return {
            key: hashlib.sha256(
                value.detach()
                .cpu()
                .contiguous()
                .reshape(-1)
                .view(torch.uint8)
                .numpy()
                .tobytes()
            ).hexdigest()
            for key, value in backbone.state_dict().items()
        }


@HOOKS.register_module()
class FeatureStatisticsHook(Hook):
    """Measure the statistics of a ``FeatureNormNeck`` before training.

    Args:
        dataset (dict): the training images with the pipeline of the test.
        batch_size (int): Defaults to 256.
        num_workers (int): Defaults to 0.
    """

    def __init__(
        self, dataset: dict, batch_size: int = 256, num_workers: int = 0
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers

    def before_train(self, runner: Runner) -> None:
        """Measure, unless a checkpoint brought the statistics."""
        model = unwrap(runner.model)
        if model.neck.measured:
            return
        dataset = DATASETS.build(self.dataset)
        features, _ = extract_features(
            model,
            dataset,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
        )
        model.neck.measure(features.to(model.neck.mean.device))
        runner.logger.info(
            f'feature statistics measured on {len(features)} images'
        )
