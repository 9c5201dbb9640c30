"""Where a classifier looks."""

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS, TRANSFORMS
from torch import Tensor, nn

from mmssd.models.utils.checkpoint import (
    extract_state_dict,
    load_checkpoint,
    load_strictly,
)
from mmssd.models.utils.step import last_output


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
        ValueError: if the backbone gives no maps, or a class is out of range.
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


def read_images(config: Config, paths: list[str]) -> list[Tensor]:
    """Read images by the pipeline of a config's test.

    Args:
        config: with ``test_dataloader`` or ``val_dataloader``.
        paths: of the images.

    Returns:
        ``(3, H, W)`` uint8 tensors, before the data preprocessor.

    Raises:
        ValueError: if the config has no such loader.
        FileNotFoundError: naming an image that does not exist.
    """
    loader = config.get('test_dataloader') or config.get('val_dataloader')
    if not loader:
        raise ValueError('the config has no test_dataloader')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = [
            TRANSFORMS.build(transform)
            for transform in loader.dataset.pipeline
        ]
    images = []
    for path in paths:
        results = dict(img_path=path)
        for transform in pipeline:
            results = transform(results)
        images.append(results['inputs'])
    return images
