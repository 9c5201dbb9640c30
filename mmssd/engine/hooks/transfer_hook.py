"""What a training started from: checked after loading, and logged."""

import logging

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from mmssd.models.utils.plan import SetupError

LISTED = 10  # keys in an error
# of a statement that leaves something unproven
NOT_COMPARED = 'features not compared'


@HOOKS.register_module()
class TransferHook(Hook):
    """State the initialisation of a run, and check that it took place.

    Before the first iteration every tensor of the backbone must be equal to
    the one in the file that ``init_cfg`` names, whatever initialisers ran
    in between. The sentence goes to the log, as a warning if the features
    could not be compared, and as ``initialisation`` into the message hub, so
    also into every checkpoint.

    A resumed run starts from its own checkpoint instead, and one with
    ``load_from`` from that file; both are stated.

    Args:
        statement (str, optional): what was proven before the model was
            built, by ``mmssd.apis.transfer.prove_initialisation``; by
            default that is done at the beginning of the run.
    """

    priority = 'VERY_LOW'

    def __init__(self, statement: str | None = None) -> None:
        self.statement = statement

    def before_run(self, runner: Runner) -> None:
        """Prove the initialisation, where nobody has.

        Raises:
            SetupError: as ``prove_initialisation``.
        """
        if self.statement is None:
            from mmssd.apis.transfer import prove_initialisation

            self.statement = prove_initialisation(runner.cfg)

    def before_train(self, runner: Runner) -> None:
        """Compare the loaded weights with the file.

        Raises:
            SetupError: listing the tensors that differ.
        """
        statement = self.statement
        if runner._resume:
            statement = f'resumed; the run began with: {statement}'
        elif runner._load_from:
            statement += f'; replaced by load_from={runner._load_from}'
        else:
            self._compare(runner)
        unproven = NOT_COMPARED in (statement or '')
        runner.logger.log(
            logging.WARNING if unproven else logging.INFO,
            f'initialisation: {statement}',
        )
        runner.message_hub.update_info('initialisation', statement)

    @staticmethod
    def _compare(runner: Runner) -> None:
        from mmssd.apis.transfer import (
            pretrained_backbone,
            read_file,
            under_prefix,
        )

        found = pretrained_backbone(runner.cfg)
        if found is None:
            return
        source, prefix = found
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        weights = under_prefix(read_file(source)[1], prefix)
        different = [
            key
            for key, value in model.backbone.state_dict().items()
            if key in weights
            and not torch.equal(weights[key].to(value), value)
        ]
        if different:
            raise SetupError(
                f'{len(different)} tensors of the backbone are not those of '
                f'{source} although the file was loaded; something '
                'initialised them anew: ' + ', '.join(different[:LISTED])
            )
