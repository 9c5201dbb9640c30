"""Ten crops and ensembles for any classifier config of mmpretrain."""

from collections.abc import Sequence
from copy import deepcopy

from mmengine.config import Config, ConfigDict

from mmssd.datasets.transforms.corner_crop import PLACES


def _kind(transform: dict) -> str:
    kind = transform.get('type', '')
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def ten_crop_pipeline(pipeline: Sequence[dict]) -> list[dict]:
    """Turn the centre crop of a test pipeline into ten crops.

    The four corners and the centre, each also flipped, of the same size;
    what comes after the crop happens to each.

    Args:
        pipeline: that ends with ``CenterCrop`` and the packing.

    Returns:
        list[dict]: a pipeline that ends with ``TestTimeAug``.

    Raises:
        ValueError: if there is not exactly one ``CenterCrop``.
    """
    kinds = [_kind(transform) for transform in pipeline]
    if kinds.count('CenterCrop') != 1:
        raise ValueError(
            'ten crops: the test pipeline must have one CenterCrop, whose '
            f'size they take; it has {kinds}'
        )
    index = kinds.index('CenterCrop')
    size = pipeline[index]['crop_size']
    crops = [
        dict(type='mmpretrain.CornerCrop', crop_size=size, place=place)
        for place in PLACES
    ]
    flips = [
        dict(type='RandomFlip', prob=prob, direction='horizontal')
        for prob in (0.0, 1.0)
    ]
    rest = [[deepcopy(transform)] for transform in pipeline[index + 1 :]]
    return [
        *deepcopy(list(pipeline[:index])),
        dict(type='TestTimeAug', transforms=[crops, flips, *rest]),
    ]


def _check_scope(cfg: Config, what: str) -> None:
    if cfg.get('default_scope') != 'mmpretrain':
        raise ValueError(
            f'{what} is for classifiers: default_scope of the config is '
            f'{cfg.get("default_scope")!r}, not mmpretrain'
        )


def set_ten_crop(cfg: Config) -> None:
    """Test every image by the average over ten crops.

    Args:
        cfg (Config): of a classifier; ``tta_model`` and ``tta_pipeline`` are
            set.

    Raises:
        ValueError: if it is of something else, or its test pipeline has no
            centre crop.
    """
    _check_scope(cfg, '--ten-crop')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    cfg.tta_model = ConfigDict(type='AverageScoreTTA')
    cfg.tta_pipeline = ten_crop_pipeline(dataset.pipeline)


def set_ensemble(cfg: Config, checkpoints: Sequence[str]) -> None:
    """Test by the average over several checkpoints of one model.

    Args:
        cfg (Config): of a classifier; changed in place.
        checkpoints (Sequence[str]): their files.

    Raises:
        ValueError: if the config is of something else.
    """
    _check_scope(cfg, '--ensemble')
    cfg.model = ConfigDict(
        type='EnsembleClassifier',
        members=[deepcopy(cfg.model) for _ in checkpoints],
        checkpoints=list(checkpoints),
    )
