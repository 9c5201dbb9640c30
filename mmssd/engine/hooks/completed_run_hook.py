"""A resumed run that has nothing left but its last validation."""

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS


@HOOKS.register_module()
class CompletedRunHook(Hook):
    """Validate a run that is resumed after its last iteration.

    The last checkpoint is saved before the last validation. Interrupted in
    between and resumed, mmengine finds nothing to train and ends without a
    result; the last one in the log is then that of an earlier checkpoint.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Note where the training begins."""
        self.begun = runner.iter

    def after_train(self, runner: Runner) -> None:
        """Validate, if nothing was trained."""
        if runner.iter == self.begun and runner.val_loop is not None:
            runner.val_loop.run()
