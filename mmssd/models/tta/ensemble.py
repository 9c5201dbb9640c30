"""The average over several networks at test time."""

from collections.abc import Sequence
from copy import deepcopy

from mmengine.model import BaseModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from ..distillers.teacher import REFERENCE
from ..utils.checkpoint import (
    extract_state_dict,
    load_checkpoint,
    load_strictly,
)
from .average_score import average_scores


@MODELS.register_module()
class EnsembleClassifier(BaseModel):
    r"""Average the class probabilities of several classifiers.

    .. math:: p_k = \frac{1}{M} \sum_m \mathrm{softmax}(s_m)_k

    For testing only; may itself be the ``module`` of a test-time
    augmentation, whose views are then averaged too.

    Args:
        members (Sequence[dict | nn.Module]): classifiers of mmpretrain of
            the same classes, each with its own data preprocessor.
        checkpoints (Sequence[str], optional): one file per member, read by
            :meth:`load`, at the latest in the first test step. Without,
            members are taken as they are.
        data_preprocessor (dict, optional): of the members whose config has
            none.

    Raises:
        ValueError: if there is no member, not one checkpoint for each, or
            they know unlike numbers of classes.
    """

    def __init__(
        self,
        members: Sequence[dict | nn.Module],
        checkpoints: Sequence[str] | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError('members is empty: an ensemble needs classifiers')
        if checkpoints is not None and len(checkpoints) != len(members):
            raise ValueError(
                f'{len(checkpoints)} checkpoints for {len(members)} members: '
                'give one for each'
            )
        self.members = nn.ModuleList()
        for member in members:
            if not isinstance(member, nn.Module):
                member = deepcopy(dict(member))
                if data_preprocessor is not None:
                    member.setdefault(
                        'data_preprocessor', deepcopy(data_preprocessor)
                    )
                member = MODELS.build(member)
            self.members.append(member)
        classes = [
            getattr(getattr(member, 'head', None), 'num_classes', None)
            for member in self.members
        ]
        if len(set(classes)) > 1:
            raise ValueError(
                f'members of {classes} classes: only classifiers of the same '
                'classes can be averaged'
            )
        self.checkpoints = None if checkpoints is None else list(checkpoints)
        self._loaded = checkpoints is None

    def load(self) -> None:
        """Load the weights of every member, of which none may be missing.

        Raises:
            CheckpointError: if a file does not fit its member.
            FileNotFoundError: if it does not exist.
        """
        for member, path in zip(
            self.members, self.checkpoints or (), strict=False
        ):
            weights = extract_state_dict(load_checkpoint(path), path)
            own = member.state_dict()
            # what a training leaves beside the classifier may be there
            known = {k: v for k, v in weights.items() if k in own}
            load_strictly(
                member,
                known or weights,
                f'checkpoint {path} of an ensemble',
                # each may have had a frozen teacher of its own
                ignore=[f'*.{name}' for name in REFERENCE],
            )
        self._loaded = True

    def test_step(self, data: dict | tuple | list) -> list[DataSample]:
        """Predict by the mean over the members.

        Args:
            data: a batch of the data loader.

        Returns:
            list[DataSample]: one per image.
        """
        if not self._loaded:
            self.load()
        scores = []
        for member in self.members:
            # members write into the same data samples: keep the scores
            samples = member.test_step(data)
            scores.append([sample.pred_score for sample in samples])
        return [
            average_scores([sample], parts)
            for sample, parts in zip(
                samples, zip(*scores, strict=True), strict=True
            )
        ]

    val_step = test_step

    def forward(self, inputs, data_samples=None, mode='tensor'):
        """Refuse: an ensemble has no training and no single output."""
        raise NotImplementedError(
            'EnsembleClassifier is for testing: call test_step'
        )
