"""Where a classifier looks."""

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmssd.evaluation.linear_probe import (
    TOLERANCE,
    logistic_regression,
    standardiser,
)
from mmssd.models.utils.checkpoint import (
    extract_state_dict,
    load_checkpoint,
    load_strictly,
)
from mmssd.models.utils.step import last_output, pool_features

WEIGHT_DECAY = 1e-2  # of the classifier fitted for a picture


class _FromLastStage(nn.Module):
    """A classifier, with the maps of its last stage as a layer.

    Gradients start there, so that a frozen backbone is no obstacle.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.maps = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            maps = last_output(self.model.backbone(images))
        if maps.dim() != 4:
            raise ValueError(
                f'the backbone gives {tuple(maps.shape)}: Grad-CAM needs maps'
            )
        if maps.shape[2:] == (1, 1):
            raise ValueError(
                f'images of {images.size(3)} x {images.size(2)} pixels leave '
                'one place in the last stage: Grad-CAM needs larger ones'
            )
        x = (self.maps(maps.requires_grad_()),)
        if self.model.with_neck:
            x = self.model.neck(x)
        return self.model.head(x)


def grad_cam(
    model: nn.Module, images: Tensor, classes: Tensor | None = None
) -> tuple[np.ndarray, Tensor]:
    r"""Map where the maps of the last stage speak for a class.

    `Grad-CAM <https://arxiv.org/abs/1610.02391>`_, equations 1 and 2, for a
    score :math:`y^c` and the maps :math:`A^k` of the last stage:

    .. math::
        \mathrm{ReLU}\Big(\sum_k \Big(\frac{1}{HW} \sum_{ij}
        \frac{\partial y^c}{\partial A^k_{ij}}\Big) A^k\Big),

    each map scaled to [0, 1] and enlarged to the image; by the library
    grad-cam.

    Args:
        model: an ``ImageClassifier``, such as a linear probe.
        images: ``(N, 3, H, W)``, preprocessed.
        classes: ``(N,)`` class indices; by default the predicted ones.

    Returns:
        Maps ``(N, H, W)``, and logits ``(N, C)``.

    Raises:
        ImportError: if grad-cam is not installed.
        ValueError: if the backbone gives no maps, or maps of one place, or a
            class is out of range.
    """
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import (
            ClassifierOutputTarget,
        )
    except ImportError as error:
        raise ImportError(
            'Grad-CAM needs the package grad-cam: pip install grad-cam'
        ) from error
    model.train(False)
    wrapped = _FromLastStage(model)
    with torch.no_grad():
        logits = wrapped(images)
    if classes is None:
        classes = logits.argmax(dim=1)
    if not 0 <= int(classes.min()) <= int(classes.max()) < logits.size(1):
        raise ValueError(
            f'classes {classes.tolist()}: the model has {logits.size(1)}'
        )
    targets = [ClassifierOutputTarget(label) for label in classes.tolist()]
    with GradCAM(wrapped, [wrapped.maps]) as cam:
        maps = cam(images, targets)
    return maps, logits


def load_classifier(config: Config, checkpoint: str) -> nn.Module:
    """Build the classifier of a config and load all of it, strictly.

    Args:
        config: with a classifier as ``model``.
        checkpoint: of its run.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the model has no head, or the file does not fit.
    """
    if not config.model.get('head'):
        raise ValueError(
            f'{config.model.get("type")} has no head: give the config and '
            'the checkpoint of a classifier, such as a linear probe'
        )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
    weights = extract_state_dict(load_checkpoint(checkpoint), checkpoint)
    load_strictly(model, weights, checkpoint)
    model.train(False)
    return model


class Probe(nn.Module):
    """A backbone with a linear classifier of its pooled features.

    Args:
        backbone: any.
        weight: ``(C, D)`` of the classifier.
        bias: ``(C,)``.
    """

    with_neck = True

    def __init__(
        self, backbone: nn.Module, weight: Tensor, bias: Tensor
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer('weight', weight)
        self.register_buffer('bias', bias)

    def neck(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """Pool the last stage to ``(N, D)``."""
        return pool_features(outputs)

    def head(self, features: Tensor) -> Tensor:
        """Return logits ``(N, C)``."""
        return F.linear(features, self.weight, self.bias)


def fit_probe(
    backbone: nn.Module,
    features: Tensor,
    labels: Tensor,
    weight_decay: float = WEIGHT_DECAY,
) -> Probe:
    """Fit a classifier of frozen features, for the scores of Grad-CAM.

    Logistic regression of standardised features, see
    :func:`mmssd.evaluation.linear_probe`, at one weight decay; the
    standardisation becomes part of the classifier.

    Args:
        backbone: that the features are of.
        features: ``(n, D)``, pooled.
        labels: ``(n,)`` class indices.
        weight_decay: of the standardised features.
    """
    mean, scale = standardiser(features)
    weight, bias = logistic_regression(
        (features - mean) / scale,
        labels,
        weight_decay,
        int(labels.max()) + 1,
        TOLERANCE,
    )
    weight = weight / scale
    return Probe(backbone, weight, bias - weight @ mean)
