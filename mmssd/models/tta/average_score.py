"""The average over the views of an image at test time."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseTTAModel
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor


def average_scores(
    samples: Sequence[DataSample], scores: Sequence[Tensor]
) -> DataSample:
    """Return a prediction by the mean of several.

    Args:
        samples: predictions for one image; labels and meta data are those of
            the first.
        scores: class probabilities ``(K,)`` of each.
    """
    mean = torch.stack(list(scores)).mean(0)
    merged = samples[0].new()
    return merged.set_pred_score(mean).set_pred_label(mean.argmax())


@MODELS.register_module()
class AverageScoreTTA(BaseTTAModel):
    r"""Average the class probabilities of several views of an image.

    .. math:: p_k = \frac{1}{V} \sum_v \mathrm{softmax}(s_v)_k

    As ``AverageClsScoreTTA`` of mmpretrain, but the predicted label is that
    of the average as well.

    Args:
        module (dict | nn.Module): the tested classifier.
        data_preprocessor (dict, optional): its data preprocessor, if it has
            none.
    """

    def merge_preds(
        self, data_samples_list: list[list[DataSample]]
    ) -> list[DataSample]:
        """Merge the predictions of the views, image by image."""
        return [
            average_scores(samples, [s.pred_score for s in samples])
            for samples in data_samples_list
        ]
