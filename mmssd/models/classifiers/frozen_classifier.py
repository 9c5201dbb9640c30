"""A classifier whose backbone is measured, not trained."""

import torch
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS


@MODELS.register_module()
class FrozenClassifier(ImageClassifier):
    """Train a head, and a neck if it has parameters, on a fixed backbone.

    For every backbone, whatever it calls its stages: no parameter of it gets
    a gradient, and it stays in evaluation mode, so that neither running
    statistics nor dropout make its features others than those that are
    tested. ``FrozenBackboneHook`` checks that nothing of it changed.

    Args:
        backbone (dict | nn.Module): with the pretrained weights as its
            ``init_cfg``.
        **kwargs: of mmpretrain's ``ImageClassifier``.
    """

    def __init__(self, backbone: dict | torch.nn.Module, **kwargs) -> None:
        super().__init__(backbone, **kwargs)
        self.backbone.requires_grad_(False)
        self.backbone.train(False)

    def train(self, mode: bool = True) -> 'FrozenClassifier':
        """Set the mode of all but the backbone."""
        super().train(mode)
        # not eval(), which some backbones answer with None
        self.backbone.train(False)
        self.backbone.requires_grad_(False)  # train() of some undoes it
        return self

    def extract_feat(
        self, inputs: torch.Tensor, stage: str = 'neck'
    ) -> tuple | torch.Tensor:
        """Extract features, without a graph through the backbone.

        Args:
            inputs (torch.Tensor): ``(N, 3, H, W)``.
            stage (str): ``'backbone'``, ``'neck'`` or ``'pre_logits'``.
                Defaults to ``'neck'``.

        Returns:
            tuple | torch.Tensor: as ``ImageClassifier`` returns it.

        Raises:
            ValueError: if the stage is another one.
        """
        if stage not in ('backbone', 'neck', 'pre_logits'):
            raise ValueError(
                f"stage={stage!r}: must be 'backbone', 'neck' or 'pre_logits'"
            )
        with torch.no_grad():
            x = self.backbone(inputs)
        if stage == 'backbone':
            return x
        if self.with_neck:
            x = self.neck(x)
        return x if stage == 'neck' else self.head.pre_logits(x)
