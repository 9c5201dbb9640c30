"""Projector of linear layers without normalisation (DINO)."""

from mmcv.cnn import build_activation_layer
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.step import pool_features


@MODELS.register_module()
class MLPNeck(BaseModule):
    """fc - [act - fc] ..., the projector of DINO up to its bottleneck.

    `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, section 3.1 and appendix C: three
    layers with GELU between them, no batch normalisation. The
    normalisation of the output and the last layer, which is of the
    objective, belong to :class:`~mmssd.models.heads.DINOHead`.

    Args:
        in_channels (int): width of the pooled features.
        hid_channels (int): width of the hidden layers. Defaults to 2048.
        out_channels (int): width of the bottleneck. Defaults to 256.
        num_layers (int): number of linear layers. Defaults to 3.
        act_cfg (dict): activation. Defaults to GELU.
        init_cfg (dict, optional): mmengine's initialisation config.
            Defaults to a truncated normal of 0.02 (DINO).

    Raises:
        ValueError: for a width or number of layers below 1.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int = 2048,
        out_channels: int = 256,
        num_layers: int = 3,
        act_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type='TruncNormal', layer='Linear', std=0.02)
        super().__init__(init_cfg=init_cfg)
        numbers = (in_channels, hid_channels, out_channels, num_layers)
        if min(numbers) < 1:
            raise ValueError(
                'in_channels, hid_channels, out_channels, num_layers = '
                f'{numbers}: all must be >= 1'
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        widths = [in_channels] + [hid_channels] * (num_layers - 1)
        layers: list[nn.Module] = []
        for width in widths[1:]:
            layers += [
                nn.Linear(widths[0], width),
                build_activation_layer(act_cfg or dict(type='GELU')),
            ]
            widths[0] = width
        layers.append(nn.Linear(widths[0], out_channels))
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor | tuple) -> tuple[Tensor]:
        """Return ``(embedding,)``, ``(N, out_channels)``.

        Args:
            x: backbone output: a map or vector, or a tuple ending in one.
        """
        return (self.mlp(pool_features(x)),)
