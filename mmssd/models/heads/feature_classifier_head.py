"""Adversarial feature classifier between teacher and student (OSS)."""

import math

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.gradient_reversal import reverse_gradient
from ..utils.step import Needs, Step
from .base_head import DistillHead

REDUCTIONS = ('mean', 'sum')


def dann_ramp(progress: float) -> float:
    r"""Strength of the gradient reversal over a training.

    .. math:: \alpha(p) = \frac{2}{1 + e^{-10 p}} - 1

    `Domain-Adversarial Training of Neural Networks
    <https://arxiv.org/abs/1505.07818>`_, section 5.2.2.

    Args:
        progress: completed fraction p of the training in [0, 1].
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


@MODELS.register_module()
class FeatureClassifierHead(DistillHead):
    r"""Teach both networks embeddings that do not tell who made them.

    "Unsupervised Representation Transfer for Small Networks: I Believe I
    Can Distill On-the-Fly" (OSS; Choi, Kang, Oh), section 3.3 and eq. 7.
    A classifier D tells teacher (label 0) from student (label 1) on the unit
    embeddings z, w of the global crops; a gradient reversal between the
    embeddings and D makes both networks work against it:

    .. math::
        L_D = - \frac{1}{M} \sum_n \sum_i \big[
        \log \mathrm{softmax}(D(z_{ni}))_0 +
        \log \mathrm{softmax}(D(w_{ni}))_1 \big]

    with M the number of rows (4N for two global crops). The dropout
    embeddings do not take part. D itself gets the ordinary gradient.

    Args:
        embed_dim (int): width D of the embeddings. Defaults to 128.
        hid_channels (int): width of D's hidden layer. Defaults to 128; the
            paper says "an MLP" without sizes.
        alpha (float | str): strength of the reversal: a constant >= 0, or
            ``'dann'`` for the ramp of :func:`dann_ramp`. Defaults to 1.0.
        reduction (str): ``'mean'`` over the rows as above, or ``'sum'``,
            the equation of the paper divided by N.
        weight (float): factor of the term. Defaults to 1.0 (eq. 1).
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for a width, alpha or reduction out of range.

    Note:
        D has no batch normalisation: statistics shared by the rows of a
        batch would give the network away.
    """

    def __init__(
        self,
        embed_dim: int = 128,
        hid_channels: int = 128,
        alpha: float | str = 1.0,
        reduction: str = 'mean',
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if embed_dim < 1 or hid_channels < 1:
            raise ValueError(
                f'embed_dim={embed_dim}, hid_channels={hid_channels}: both '
                'must be >= 1'
            )
        if alpha != 'dann' and not (
            isinstance(alpha, (int, float)) and alpha >= 0
        ):
            raise ValueError(
                f"alpha={alpha!r}: must be a number >= 0 or 'dann'"
            )
        if reduction not in REDUCTIONS:
            raise ValueError(
                f'reduction={reduction!r}: must be one of {REDUCTIONS}'
            )
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.embed_dim = embed_dim
        self.alpha = alpha
        self.reduction = reduction
        self.weight = weight
        self.classifier = nn.Sequential(
            nn.Linear(embed_dim, hid_channels),
            nn.ReLU(inplace=True),
            nn.Linear(hid_channels, 2),
        )

    @property
    def needs(self) -> Needs:
        """Embeddings of the global crops of teacher and student."""
        return Needs(
            student={'embeddings'},
            teacher={'embeddings'},
            teacher_views='global',
        )

    def _alpha(self, step: Step) -> float:
        if self.alpha != 'dann':
            return self.alpha
        if step.progress is None:
            raise RuntimeError(
                "alpha='dann' of FeatureClassifierHead follows the progress "
                'of a training, which is known inside a runner only: train '
                'by tools/train.py or give a constant alpha'
            )
        return dann_ramp(step.progress)

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_domain``, and D's ``accuracy`` as a diagnostic."""
        sources = [
            torch.cat(network.embeddings[: step.num_global])
            for network in (step.teacher, step.student)
        ]
        dtype = torch.promote_types(
            self.classifier[0].weight.dtype, torch.float32
        )
        rows = F.normalize(torch.cat(sources).to(dtype), dim=1)
        labels = torch.cat(
            [
                torch.full((len(z),), label, device=z.device)
                for label, z in enumerate(sources)
            ]
        )
        logits = self.classifier(reverse_gradient(rows, self._alpha(step)))
        loss = F.cross_entropy(logits, labels)
        if self.reduction == 'sum':
            loss = loss * 2 * step.num_global
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return {'loss_domain': self.weight * loss, 'accuracy': accuracy}
