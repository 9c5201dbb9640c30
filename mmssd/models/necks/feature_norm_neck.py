"""Normalisation of features by fixed statistics."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor

from ..utils.step import pool_features


@MODELS.register_module()
class FeatureNormNeck(BaseModule):
    r"""Scale features to unit length, then each channel to unit variance.

    .. math::
        u = x / \lVert x \rVert_2, \qquad
        \hat u_j = (u_j - \mu_j) / \sqrt{\sigma^2_j + \epsilon}

    The two normalisations of the linear probe of `CompRess
    <https://arxiv.org/abs/2010.14713>`_. :math:`\mu` and :math:`\sigma^2`
    are those of :math:`u` over the training images; they are measured once,
    by ``FeatureStatisticsHook``, are never trained, and are in the
    checkpoint.

    Args:
        num_features (int): width of the pooled features.
        eps (float): added to the variances. Defaults to 1e-5 (CompRess).
    """

    mean: Tensor
    var: Tensor
    measured: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer('mean', torch.zeros(num_features))
        self.register_buffer('var', torch.ones(num_features))
        self.register_buffer('measured', torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def measure(self, features: Tensor) -> None:
        """Take the statistics of pooled features.

        Args:
            features (Tensor): ``(N, C)``, of the training images.

        Raises:
            ValueError: if their width is another one, or there are none.
        """
        if features.shape[1:] != self.mean.shape or not len(features):
            raise ValueError(
                f'features of shape {tuple(features.shape)}: expected (N, '
                f'{len(self.mean)}), the num_features of FeatureNormNeck'
            )
        unit = F.normalize(features.double(), dim=1)
        var, mean = torch.var_mean(unit, dim=0, correction=0)
        self.mean.copy_(mean)
        self.var.copy_(var)
        self.measured.fill_(True)

    def forward(self, x: Tensor | tuple) -> tuple[Tensor]:
        """Normalise the last map or vector of a backbone.

        Args:
            x (Tensor | tuple): output of the backbone.

        Returns:
            tuple[Tensor]: ``((N, C),)``.

        Raises:
            RuntimeError: if the statistics have not been measured.
        """
        if not self.measured:
            raise RuntimeError(
                'FeatureNormNeck has no statistics: add '
                'FeatureStatisticsHook to custom_hooks, or load a checkpoint'
            )
        unit = F.normalize(pool_features(x).float(), dim=1)
        return ((unit - self.mean) * (self.var + self.eps).rsqrt(),)
