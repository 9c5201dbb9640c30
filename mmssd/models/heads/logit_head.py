"""Class scores of a teacher with a classification head: KD."""

from mmpretrain.registry import MODELS
from torch import Tensor

from ..losses.logit_distillation import REDUCTIONS, logit_distillation
from ..losses.swapped_prediction import check_temperature
from ..utils.plan import SetupError
from ..utils.step import Needs, Step
from .delayed_head import DelayedHead


@MODELS.register_module()
class LogitHead(DelayedHead):
    r"""Softened class probabilities of the teacher, beside the labels.

    .. math:: L = \alpha\, T^2\, \mathrm{KL} + (1 - \alpha)\, \mathrm{CE}

    (`KD <https://arxiv.org/abs/1503.02531>`_; with these defaults as DisCo
    compares it at fine-tuning.) The first term is
    :func:`~mmssd.models.losses.logit_distillation`; the second the loss of
    the classification head, which :class:`~mmssd.models.DistillClassifier`
    weighs by :attr:`label_weight`, :math:`1 - \alpha`.

    Logged term: ``loss_logits``.

    Args:
        alpha (float): in [0, 1]. Defaults to 0.5.
        temperature (float): T. Defaults to 2.0.
        reduction (str): ``'batchmean'``; or ``'mean'``, over images and
            classes, as the code of DisCo has it: with 1000 classes 1000
            times weaker. Defaults to ``'batchmean'``.
        start (int | dict): see :class:`DelayedHead`. Before it the labels
            have weight 1.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range; on construction of the
            model, if teacher and student score unlike numbers of classes.
    """

    needs = Needs(student={'logits'}, teacher={'logits'})
    term = 'loss_logits'

    def __init__(
        self,
        alpha: float = 0.5,
        temperature: float = 2.0,
        reduction: str = 'batchmean',
        start: int | dict = 0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(start=start, init_cfg=init_cfg)
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha={alpha}: must be in [0, 1]')
        check_temperature(temperature)
        if reduction not in REDUCTIONS:
            raise ValueError(
                f'reduction={reduction!r}: must be one of {REDUCTIONS}'
            )
        self.alpha = alpha
        self.label_weight = 1 - alpha
        self.temperature = temperature
        self.reduction = reduction

    def distill(self, step: Step) -> Tensor:
        """Return the weighted divergence of the first view."""
        student, teacher = step.student.logits[0], step.teacher.logits[0]
        if student.shape != teacher.shape:
            raise SetupError(
                f'the teacher scores {teacher.size(1)} classes, the student '
                f'{student.size(1)}: LogitHead needs the same classes'
            )
        return self.alpha * logit_distillation(
            student, teacher, self.temperature, self.reduction
        )
