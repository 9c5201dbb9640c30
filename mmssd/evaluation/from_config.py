"""Features of a trained network, by its config and checkpoint."""

import copy
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor, nn

from mmssd.apis.export import select_part
from mmssd.apis.transfer import named_file
from mmssd.models.utils.checkpoint import (
    CheckpointError,
    extract_state_dict,
    load_checkpoint,
    load_strictly,
)

from .features import (
    PARTS,
    check_classes,
    extract_features,
    get_backbone,
)

SETS = ('bank', 'query')


def labelled_sets(config: Config) -> dict[str, dict]:
    """Return the labelled data sets that a config names.

    Args:
        config: with ``bank`` and ``query``, data set configs with an
            evaluation pipeline, either on top or as the arguments of a
            ``KNNProbeHook``.

    Returns:
        ``bank``, the training rows of a probe, and ``query``, its test rows.

    Raises:
        ValueError: if the config names none.
    """
    hooks = list(config.get('custom_hooks') or [])
    hooks += (config.get('default_hooks') or {}).values()
    for place in [config, *hooks]:
        if place and all(place.get(name) for name in SETS):
            sets = {name: place[name] for name in SETS}
            # a data loader config holds its data set
            return {
                name: found if 'type' in found else found['dataset']
                for name, found in sets.items()
            }
    raise ValueError(
        'the config names no labelled images: add bank=dict(type=...) and '
        'query=dict(type=...), data sets with an evaluation pipeline that '
        'ends in PackInputs, or a KNNProbeHook with them'
    )


def without_files(model: dict) -> dict:
    """Return the config of a model whose backbone starts from no file.

    Args:
        model: config, perhaps with ``init_cfg=dict(type='Pretrained', ...)``
            or ``pretrained``.
    """
    model = copy.deepcopy(model)
    for node in (model, model.get('backbone')):
        if isinstance(node, dict):
            node.pop('pretrained', None)
            if named_file(node.get('init_cfg')):
                node['init_cfg'] = None
    return model


def place_of(model: nn.Module, part: str) -> str:
    """Return the part of a model that :func:`build_network` loads a part to.

    Args:
        model: of a config.
        part: of the checkpoint.

    Returns:
        The same, or ``'student'`` if the model has no such part.
    """
    network = getattr(model, part, None)
    return 'student' if getattr(network, 'backbone', None) is None else part


def build_network(
    config: Config, checkpoint: str | Path | None, part: str = 'student'
) -> nn.Module:
    """Build the model of a config with the backbone of one part loaded.

    Args:
        config: with ``model``.
        checkpoint: of a run, or an exported backbone for the student;
            ``None`` leaves random weights, whatever file the config starts
            its backbone from, which the log says.
        part: ``'student'``, ``'teacher'`` or ``'momentum'``. Of a model
            without it, such as a classifier, the backbone gets that part of
            the checkpoint; :func:`place_of` tells.

    Returns:
        The model, in eval mode; only the backbone of ``part`` is what the
        checkpoint holds. A frozen teacher comes from its own file.

    Raises:
        FileNotFoundError: if there is no such checkpoint.
        ValueError: if the checkpoint does not hold or fit the part, or there
            is none and the model has no such part.
    """
    if part not in PARTS:
        raise ValueError(f'part={part!r}: must be one of {PARTS}')
    model_config = without_files(config.model)
    if config.get('data_preprocessor') is not None:
        model_config.setdefault('data_preprocessor', config.data_preprocessor)
    model = MODELS.build(model_config)
    place = part if checkpoint is None else place_of(model, part)
    backbone = get_backbone(model, place)
    model.init_weights()
    model.eval()
    by_reference = getattr(getattr(model, part, None), 'by_reference', False)
    if checkpoint is None:
        if not by_reference:
            MMLogger.get_current_instance().warning(
                f'no checkpoint: the {part} has its initial weights'
            )
        return model
    weights = extract_state_dict(load_checkpoint(checkpoint), checkpoint)
    try:
        weights = select_part(weights, part, checkpoint)
    except CheckpointError:
        if by_reference:  # it has loaded its own file
            return model
        raise
    load_strictly(backbone, weights, checkpoint, name=f'{part} backbone')
    return model


def features_by_config(
    config: Config,
    checkpoint: str | Path | None = None,
    part: str = 'student',
    batch_size: int = 256,
    num_workers: int = 0,
    device: str = 'cpu',
    sets: Sequence[str] = SETS,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Extract the features of the labelled sets of a config.

    Args:
        config: see :func:`labelled_sets` and :func:`build_network`.
        checkpoint: see :func:`build_network`.
        part: see there.
        batch_size: images per batch. Defaults to 256.
        num_workers: processes that read images. Defaults to 0.
        device: where the network runs. Defaults to ``'cpu'``.
        sets: which ones. Defaults to both.

    Returns:
        ``{'bank': (features, labels), 'query': (features, labels)}``, see
        :func:`extract_features`.

    Raises:
        FileNotFoundError: see :func:`build_network`.
        ValueError: see there; or if a set has no labels, or the sets number
            their classes differently.
    """
    found = labelled_sets(config)
    scope = config.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        model = build_network(config, checkpoint, part).to(device)
        place = place_of(model, part)
        built = {name: DATASETS.build(found[name]) for name in sets}
        check_classes(built)
        result = {}
        for name, dataset in built.items():
            features, labels = extract_features(
                model,
                dataset,
                place,
                batch_size=batch_size,
                num_workers=num_workers,
            )
            if labels is None:
                raise ValueError(
                    f'the {name} set ({type(dataset).__name__}) has no '
                    'labels (gt_label)'
                )
            result[name] = features, labels
    return result
