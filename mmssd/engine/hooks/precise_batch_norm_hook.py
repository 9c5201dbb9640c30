"""Statistics of batch norms for the weights that are tested."""

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmpretrain.engine.hooks.precise_bn_hook import update_bn_stats
from mmpretrain.registry import HOOKS
from torch import nn

from mmssd.evaluation.features import unwrap


class _AsInTraining(nn.Module):
    """Run a model as a training step does, without its update.

    The batch norms of a detector's head see other regions otherwise.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def data_preprocessor(self, data: dict, training: bool) -> dict:
        return self.model.data_preprocessor(data, True)

    def forward(self, **data) -> dict:
        return self.model(**data, mode='loss')


@HOOKS.register_module()
class PreciseBatchNormHook(Hook):
    """Recompute the running statistics of batch norms after the training.

    `Rethinking "Batch" in BatchNorm <https://arxiv.org/abs/2105.07576>`_,
    section 3, by mmpretrain's function: with the weights as they are at the
    end, mean and variance become the averages of those of many batches of
    training, in place of a running average over changing weights. It happens
    before the last checkpoint and the last validation. Batch norms in
    evaluation mode stay as they are.

    In place of mmpretrain's ``PreciseBNHook``, which runs detectors as in a
    test.

    Args:
        num_batches (int): of this process, fewer if an epoch has fewer.
            Defaults to 200, as in detectron2.

    Raises:
        ValueError: for ``num_batches`` below 1.
    """

    def __init__(self, num_batches: int = 200) -> None:
        if num_batches < 1:
            raise ValueError(f'num_batches={num_batches}: must be at least 1')
        self.num_batches = num_batches

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Recompute them after the last iteration, of a loop of those."""
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if not by_epoch and self.is_last_train_iter(runner):
            self._recompute(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Recompute them after the last epoch, of a loop of those."""
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if by_epoch and self.is_last_train_epoch(runner):
            self._recompute(runner)

    def _recompute(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        update_bn_stats(
            _AsInTraining(unwrap(runner.model)),
            loader,
            self.num_batches * loader.batch_size * get_world_size(),
            logger=runner.logger,
        )
