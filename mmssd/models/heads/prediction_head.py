"""Prediction of the momentum student's embedding: BYOL."""

from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..losses.embedding_mse import embedding_mse
from ..utils.plan import SetupError
from ..utils.step import Needs, Step
from .base_head import DistillHead


@MODELS.register_module()
class PredictionHead(DistillHead):
    r"""BYOL: predict the momentum student's embedding of the other crop.

    .. math::
        L = \frac{1}{N} \sum_n \big(
        \lVert u(q(s_{n1})) - u(k_{n2}) \rVert^2 +
        \lVert u(q(s_{n2})) - u(k_{n1}) \rVert^2 \big)

    with the predictor q (linear, batch norm, ReLU, linear without bias, as in
    the published code and mmpretrain), unit rows u, the student's embeddings
    s of the first two global crops and the momentum student's k.
    `Bootstrap Your Own Latent
    <https://arxiv.org/abs/2006.07733>`_, eq. 2. The momentum rises to 1:
    ``model.momentum=dict(decay=0.99, final_decay=1.0)``.

    Under gradient accumulation the momentum student moves once for every
    update of the weights; that of mmpretrain's ``BYOL`` moves with every
    batch.

    Logged term: ``loss_prediction``.

    Args:
        embed_dim (int): width D of the embeddings. Defaults to 256.
        hid_channels (int): width of the predictor's hidden layer. Defaults
            to 4096.
        weight (float): factor. Defaults to 1.0.
        init_cfg (dict, optional): mmengine's initialisation config.

    Raises:
        ValueError: for an argument out of range; in training, for
            embeddings of another width.
    """

    needs = Needs(
        student={'embeddings'},
        momentum={'embeddings'},
        student_views=(0, 1),
        momentum_views=(0, 1),
        min_global=2,
    )

    def __init__(
        self,
        embed_dim: int = 256,
        hid_channels: int = 4096,
        weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if embed_dim < 1 or hid_channels < 1:
            raise ValueError(
                f'embed_dim={embed_dim}, hid_channels={hid_channels}: both '
                'must be >= 1'
            )
        if weight < 0:
            raise ValueError(f'weight={weight}: must be >= 0')
        self.embed_dim = embed_dim
        self.weight = weight
        self.predictor = nn.Sequential(
            nn.Linear(embed_dim, hid_channels),
            nn.BatchNorm1d(hid_channels),
            nn.ReLU(inplace=True),
            nn.Linear(hid_channels, embed_dim, bias=False),
        )

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_prediction``."""
        students = step.student.embeddings[:2]
        targets = step.momentum.embeddings[:2]
        if students[0].size(1) != self.embed_dim:
            raise SetupError(
                f'embed_dim={self.embed_dim} of PredictionHead, but the '
                f'embeddings have width {students[0].size(1)}: set it so'
            )
        dtype = self.predictor[0].weight.dtype
        # a call for each crop: their statistics are their own, as in BYOL
        predictions = [self.predictor(rows.to(dtype)) for rows in students]
        loss = sum(
            embedding_mse(prediction, target.detach())
            for prediction, target in zip(
                predictions, reversed(targets), strict=True
            )
        )
        return {'loss_prediction': self.weight * loss}
