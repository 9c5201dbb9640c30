"""Whether a teacher is worth a long run: what it loaded, sees and gives.

Shape legend: N images, D width of features or embeddings.
"""

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor, nn

from mmssd.models.distillers.encodings import encode
from mmssd.models.utils.layouts import PARTS, groups
from mmssd.models.utils.plan import SetupError

from .features import check_classes, evaluating, extract_features
from .from_config import labelled_sets
from .knn import knn_accuracy

# Unit vectors of different images that are this alike are one vector; so
# are those of most networks that were never trained.
COLLAPSED_COSINE = 0.99
COLLAPSED_RANK = 2.0
# Normalised pixels of photographs have a mean near 0 and a std near 1.
INPUT_MEAN = 3.0
INPUT_STD = (0.1, 4.0)
IMAGENET_RESIZE = 256 / 224  # short side over crop, in evaluation


def embedding_statistics(rows: Tensor) -> dict[str, float]:
    r"""Describe how embeddings of different images spread.

    With unit rows :math:`z_n` and the singular values :math:`\sigma_i` of
    the rows less their mean, :math:`p_i = \sigma_i / \sum_j \sigma_j`:

    * ``mean_cosine``: :math:`\frac{1}{N(N-1)} \sum_{n \ne m} z_n^\top z_m`;
    * ``std``: standard deviation of a dimension of z, mean over D, times
      :math:`\sqrt{D}`: 1 for directions without preference, 0 for one
      vector (Chen and He, https://arxiv.org/abs/2011.10566, section 4.1);
    * ``effective_rank``: :math:`\exp(-\sum_i p_i \ln p_i)`, from 1 to D (Roy
      and Vetterli, "The effective rank", EUSIPCO 2007).

    Args:
        rows: ``(N, D)``, N at least 2.

    Returns:
        These, ``width`` and ``norm_mean``, ``norm_min``, ``norm_max`` of the
        rows as given; NaN where rows are not finite.

    Raises:
        ValueError: for another shape.
    """
    if rows.dim() != 2 or len(rows) < 2:
        raise ValueError(
            f'embeddings of shape {tuple(rows.shape)}: expected (N, D) of at '
            'least 2 images'
        )
    rows = rows.double()
    norms = rows.norm(dim=1)
    result = dict(
        width=rows.size(1),
        norm_mean=norms.mean().item(),
        norm_min=norms.min().item(),
        norm_max=norms.max().item(),
        mean_cosine=math.nan,
        std=math.nan,
        effective_rank=math.nan,
    )
    if not torch.isfinite(rows).all():
        return result
    number = len(rows)
    unit = nn.functional.normalize(rows, dim=1)
    total = unit.sum(0).square().sum() - unit.square().sum()
    result['mean_cosine'] = (total / (number * (number - 1))).item()
    spread = unit.std(dim=0, correction=0).mean() * math.sqrt(unit.size(1))
    result['std'] = spread.item()
    values = torch.linalg.svdvals(unit - unit.mean(0))
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    entropy = -torch.special.xlogy(shares, shares).sum()
    result['effective_rank'] = entropy.exp().item()
    return result


def diagnose(statistics: Mapping[str, float], what: str) -> str:
    """Name what is wrong with embeddings; empty if nothing is.

    Args:
        statistics: of :func:`embedding_statistics`.
        what: their name in the sentence.
    """
    if math.isnan(statistics['mean_cosine']):
        return f'dead teacher: its {what} are not finite'
    if statistics['norm_min'] == 0:
        return f'dead teacher: {what} of some images are all zero'
    cosine = statistics['mean_cosine']
    if cosine > COLLAPSED_COSINE:
        return (
            f'collapsed teacher: {what} of different images have a mean '
            f'cosine of {cosine:.4f} (above {COLLAPSED_COSINE}), as of an '
            'untrained or collapsed network, or of one that sees another '
            'normalisation'
        )
    rank = statistics['effective_rank']
    if rank < COLLAPSED_RANK:
        return (
            f'collapsed teacher: its {what} span {rank:.2f} dimensions of '
            f'{statistics["width"]} (effective rank below {COLLAPSED_RANK:g})'
        )
    return ''


def folder_sets(folder: str | Path, size: int = 224) -> dict[str, dict]:
    """Return configs of labelled images, one subfolder for each class.

    Images are resized and cropped as for ImageNet, and come as BGR, as mmcv
    loads them.

    Args:
        folder: with ``train/<class>/`` and ``val/<class>/``.
        size: side of the crops in pixels.

    Raises:
        FileNotFoundError: if one of the two is missing.
    """
    pipeline = [
        dict(type='LoadImage'),
        dict(
            type='ResizeEdge',
            scale=round(size * IMAGENET_RESIZE),
            edge='short',
        ),
        dict(type='CenterCrop', crop_size=size),
        dict(type='PackInputs'),
    ]
    sets = {}
    for name, split in (('bank', 'train'), ('query', 'val')):
        path = Path(folder).expanduser() / split
        if not path.is_dir() or not any(p.is_dir() for p in path.iterdir()):
            raise FileNotFoundError(
                f'labelled images {path}/<class>/ not found: give a folder '
                'with train/<class>/ and val/<class>/'
            )
        sets[name] = dict(
            type='CustomDataset', data_prefix=str(path), pipeline=pipeline
        )
    return sets


def _dataset(config: Mapping, name: str, remedy: str) -> Any:
    try:
        return DATASETS.build(copy.deepcopy(dict(config)))
    except (OSError, AssertionError, RuntimeError, ValueError) as error:
        raise SetupError(
            f'the {name} ({config.get("type")}) cannot be read: {error}. '
            f'{remedy}'
        ) from error


def _sample(dataset: Any, number: int) -> Tensor:
    """Return images spread evenly over a data set, first views of several."""
    number = min(number, len(dataset))
    indices = torch.linspace(0, len(dataset) - 1, number).round().int()
    images = []
    for index in indices.tolist():
        inputs = dataset[index]['inputs']
        images.append(inputs[0] if isinstance(inputs, list) else inputs)
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise SetupError(
            f'images of different shapes {sorted(shapes)}: the pipeline has '
            'to end with a fixed size'
        )
    return torch.stack(images)


@torch.no_grad()
def _encode(
    model: nn.Module, images: Tensor, batch_size: int, device: str
) -> dict[str, Tensor]:
    """Return what the teacher sees, and its features and embeddings."""
    teacher = model.teacher
    fields = frozenset(['features', 'embeddings'])
    found: dict[str, list[Tensor]] = {}
    with evaluating(teacher):
        for batch in images.split(batch_size):
            data = dict(inputs=batch.to(device), data_samples=None)
            views = model.data_preprocessor(data, False)['inputs']
            views = teacher.adapt([views])
            encoded = encode(teacher.backbone, teacher.neck, views, fields)
            for name, value in (
                ('input', views[0]),
                ('features', encoded.features[0]),
                ('embeddings', encoded.embeddings[0]),
            ):
                found.setdefault(name, []).append(value.float().cpu())
    return {name: torch.cat(parts) for name, parts in found.items()}


def _describe_file(teacher: nn.Module) -> dict[str, Any]:
    loaded = teacher.loaded
    if loaded is None:
        return dict(checkpoint=teacher.checkpoint, layout=None)
    keys = {
        part: sum(key.startswith(f'{part}.') for key in loaded.keys)
        for part in PARTS
        if getattr(teacher, part) is not None
    }
    return dict(
        checkpoint=str(loaded.path),
        sha256=teacher.sha256,
        layout=loaded.layout,
        matched_keys=keys,
        unused_keys=groups(loaded.unused) or 'none',
    )


def _describe_input(teacher: nn.Module, seen: Tensor) -> dict[str, Any]:
    dims = (0, 2, 3)
    return dict(
        normalised_by='its own mean and std'
        if teacher.input is not None
        else "the student's mean and std",
        size=list(seen.shape[2:]),
        mean=seen.mean(dims).tolist(),
        std=seen.std(dims).tolist(),
    )


def _diagnose_input(seen: Mapping[str, Any]) -> str:
    low, high = INPUT_STD
    if any(not abs(m) <= INPUT_MEAN for m in seen['mean']) or any(
        not low <= s <= high for s in seen['std']
    ):
        shown = [
            [round(value, 3) for value in seen[name]]
            for name in ('mean', 'std')
        ]
        return (
            f'the input has mean {shown[0]} and std {shown[1]}, not about 0 '
            "and 1: check teacher.mean, teacher.std and the student's"
        )
    return ''


def check_teacher(
    config: Config,
    images: int = 256,
    batch_size: int = 64,
    num_workers: int = 0,
    device: str = 'cpu',
    labelled: str | Path | None = None,
    size: int = 224,
    knn: bool | None = None,
    k: int = 20,
) -> dict[str, Any]:
    """Load the teacher of a config and look at what it gives.

    Args:
        config: of the run, with ``model.teacher``.
        images: how many to compute statistics of: of the labelled queries,
            else of the training data. Defaults to 256.
        batch_size: images per batch. Defaults to 64.
        num_workers: processes that read labelled images. Defaults to 0.
        device: where the teacher runs. Defaults to ``'cpu'``.
        labelled: see :func:`folder_sets`; instead of the config's sets.
        size: see there.
        knn: whether to classify the labelled queries; by default if there
            are labelled sets.
        k: number of neighbours. Defaults to 20.

    Returns:
        ``file``, ``input``, ``features``, ``embeddings`` (``None`` without
        neck), ``knn_top1`` (percent, ``None`` without labels) and
        ``findings``, sentences about what is wrong.

    Raises:
        FileNotFoundError: if the teacher's file or a folder is missing.
        ValueError: if the config has no teacher, its file does not fit, or
            images or demanded labels are missing.
    """
    if images < 2 or batch_size < 1:
        raise ValueError(
            f'images={images}, batch_size={batch_size}: at least 2 and 1'
        )
    if not (config.get('model') or {}).get('teacher'):
        raise ValueError('the config has no model.teacher to check')
    sets = None
    if labelled is not None:
        sets = folder_sets(labelled, size)
    elif knn is not False:
        try:
            sets = labelled_sets(config)
        except ValueError:
            if knn:
                raise
    scope = config.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        remedy = 'Give labelled images by --labelled FOLDER, or none'
        built = {
            name: _dataset(found, f'labelled {name} set', remedy)
            for name, found in (sets or {}).items()
        }
        check_classes(built)
        if 'query' in built:
            shown = built['query']
        else:
            loader = config.get('train_dataloader') or {}
            if not loader.get('dataset'):
                raise ValueError(
                    'the config has neither labelled images nor '
                    'train_dataloader.dataset: give --labelled FOLDER'
                )
            shown = _dataset(
                loader['dataset'],
                'training data',
                'Put them there, or give --labelled FOLDER',
            )
        model = MODELS.build(copy.deepcopy(config.model))
        if not (model.teacher.frozen or model.teacher.from_file):
            raise ValueError(
                'model.teacher is trained in the run, from initial weights: '
                'there is nothing to check before it'
            )
        model.teacher.init_weights()
        model = model.to(device)
        encoded = _encode(model, _sample(shown, images), batch_size, device)
        report: dict[str, Any] = dict(
            file=_describe_file(model.teacher),
            images=len(encoded['input']),
            input=_describe_input(model.teacher, encoded['input']),
            features=embedding_statistics(encoded['features']),
            embeddings=None
            if model.teacher.neck is None
            else embedding_statistics(encoded['embeddings']),
            knn_top1=None,
        )
        findings = [
            _diagnose_input(report['input']),
            diagnose(report['features'], 'features'),
        ]
        if report['embeddings'] is not None:
            findings.append(diagnose(report['embeddings'], 'embeddings'))
        if not report['file']['layout']:
            findings.append(
                'the teacher has no file: these are initial weights'
            )
        report['findings'] = [text for text in findings if text]
        alive = torch.isfinite(encoded['features']).all()
        if built and alive:
            report['knn_top1'] = _knn(model, built, batch_size, num_workers, k)
    return report


def _knn(
    model: nn.Module,
    sets: Mapping[str, Any],
    batch_size: int,
    num_workers: int,
    k: int,
) -> float:
    rows = []
    for name, dataset in sets.items():
        features, labels = extract_features(
            model,
            dataset,
            'teacher',
            batch_size=batch_size,
            num_workers=num_workers,
        )
        if labels is None:
            raise SetupError(f'the labelled {name} set has no labels')
        rows += [features, labels]
    return knn_accuracy(*rows, k=k)
