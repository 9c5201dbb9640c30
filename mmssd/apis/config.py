"""Loading of config files, and what the flags of the tools do to them."""

import copy
import difflib
import importlib
import importlib.util
import inspect
import logging
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.config.utils import MODULE2PACKAGE, ConfigParsingError
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmssd.engine.hooks.checkpoint_hook import AtomicCheckpointHook
from mmssd.engine.hooks.deferred_scalars_hook import DeferredScalarsHook
from mmssd.engine.hooks.health_hook import HealthHook

# default scope -> package that provides it
PACKAGES = {
    'mmpretrain': 'onedl-mmpretrain',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
}
# keys that configs may lack and runs read
KNOWN_KEYS = {
    *inspect.signature(Runner).parameters,
    *('activation_checkpointing', 'compile', 'custom_imports'),
    *('efficient_conv_bn_eval', 'find_unused_parameters', 'runner_type'),
    *('model_wrapper_cfg', 'pretrained_config', 'sync_bn', 'teacher_cache'),
    *('tta_model', 'tta_pipeline'),
}
# what DataLoader gets for a config of mmpretrain that does not say
DATALOADER = dict(
    pin_memory=True,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
)


def load_config(path: str | Path, cfg_options: dict | None = None) -> Config:
    """Load a config of mmssd, mmpretrain, mmdet or mmseg, ready to be built.

    Bases of all of them can be inherited from, as in
    ``_base_ = 'mmseg::_base_/models/fcn_r50-d8.py'``. Modules are registered
    for the scope of the config only, so that mmdet and mmseg need not be
    there for others.

    Args:
        path (str | Path): file to load.
        cfg_options (dict, optional): values to set, by dotted keys.

    Returns:
        Config: with every base merged.

    Raises:
        FileNotFoundError: if the file, or one of its bases, does not exist.
        ValueError: if it is no valid config, or an option does not fit.
        ImportError: if it needs a library that is not installed or broken.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(_explain_missing(path))
    # mmengine takes 'mmseg' for a distribution named mmsegmentation, which
    # the maintained fork is not; a module's name serves all of them.
    MODULE2PACKAGE.update(mmseg='mmseg', mmssd='mmssd')
    try:
        cfg = Config.fromfile(path)
    except ModuleNotFoundError as error:
        for scope in PACKAGES:
            if str(error).startswith(f'{scope} is not installed'):
                raise ImportError(_explain_scope(path, scope)) from error
        raise
    except (AttributeError, NameError, KeyError, TypeError) as error:
        raise ValueError(
            f'config {path} cannot be read: {type(error).__name__}: {error}'
        ) from error
    except (ConfigParsingError, SyntaxError, OSError, ValueError) as error:
        kind = (
            FileNotFoundError
            if isinstance(error, FileNotFoundError)
            else ValueError
        )
        raise kind(f'config {path} cannot be read: {error}') from error
    if cfg_options:
        _merge_options(cfg, cfg_options)
    # where the bases of mmpretrain's datasets say how to normalise
    if cfg.get('data_preprocessor') and 'model' in cfg:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    register_modules(cfg.get('default_scope'), path)
    return cfg


def _explain_missing(path: Path) -> str:
    """A sentence about a file that is not there, and what comes close."""
    message = f'config file {path} does not exist'
    if not path.is_absolute():
        message += f' (looked for from {Path.cwd()})'
    root = path.parent
    while not root.is_dir():
        root = root.parent
    if root not in (Path('/'), Path('.')):
        found = {file.name: file for file in sorted(root.rglob('*.py'))}
        close = difflib.get_close_matches(path.name, found, cutoff=0.5)
        if close:
            message += '; there is ' + ', '.join(
                str(found[name]) for name in close
            )
    return message


def _explain_scope(path: Path, scope: str) -> str:
    package = PACKAGES[scope]
    return (
        f'config {path} needs {scope}, which is not installed. Install it: '
        f'pip install {package}, or all that is needed by `make setup`'
    )


def _merge_options(cfg: Config, options: dict) -> None:
    for key in options:
        name = key.split('.')[0]
        if name not in cfg and name not in KNOWN_KEYS:
            print_log(
                f'--cfg-options {key}: the config has no {name!r}, so this '
                'may have no effect',
                logger='current',
                level=logging.WARNING,
            )
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'--cfg-options {options} does not fit the config: {error}'
        ) from error


def register_modules(scope: str | None, path: str | Path = '') -> None:
    """Register the modules of a scope, saying what is missing.

    Args:
        scope (str, optional): ``default_scope`` of a config; those that are
            not mmpretrain's, mmdet's or mmseg's are left to mmengine.
        path (str | Path): of the config, for the message.

    Raises:
        ImportError: if the library is not installed or does not work.
    """
    if scope not in PACKAGES:
        return
    if importlib.util.find_spec(scope) is None:
        raise ImportError(_explain_scope(Path(path), scope))
    try:
        utils = importlib.import_module(f'{scope}.utils')
        utils.register_all_modules(init_default_scope=False)
    except ImportError as error:
        if 'mmcv._ext' not in str(error):
            raise
        raise ImportError(
            f'{scope} needs the operators of mmcv, and this mmcv was built '
            'without them. `make setup` repairs its own environment; '
            'docs/install.md says how to build them in another'
        ) from error


def set_work_dir(cfg: Config, work_dir: str | None, path: str) -> None:
    """Set ``cfg.work_dir``: argument, else config, else from its file name."""
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(path).stem)


def set_dataloaders(
    cfg: Config, pin_memory: bool = True, persistent_workers: bool = True
) -> None:
    """Complete the loaders as mmpretrain does, and fit them to the machine.

    Memory is not pinned without a GPU, and workers persist only where there
    are any; otherwise PyTorch warns of the one and refuses the other.

    Args:
        cfg (Config): changed in place.
        pin_memory (bool): False forbids it. Defaults to True.
        persistent_workers (bool): False forbids them. Defaults to True.
    """
    pin_memory = pin_memory and torch.cuda.is_available()
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader is None:
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            for key, value in DATALOADER.items():
                loader.setdefault(key, copy.deepcopy(value))
        if not pin_memory:
            loader.pin_memory = False
        if not (persistent_workers and loader.get('num_workers')):
            loader.persistent_workers = False


def disable_validation(cfg: Config) -> None:
    """Train without looking at the validation set."""
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None


def set_amp(cfg: Config) -> None:
    """Train in mixed precision: bfloat16, else float16 with loss scaling.

    bfloat16 on the CPU and on every GPU that has it needs no loss scaling,
    which would make host and device meet at every step.

    Args:
        cfg (Config): changed in place.

    Raises:
        ValueError: if the config has no optimizer wrapper, or its own.
    """
    wrapper = cfg.get('optim_wrapper')
    kind = wrapper.get('type', 'OptimWrapper') if wrapper else None
    if not isinstance(kind, str):
        kind = getattr(kind, '__name__', kind)
    kind = str(kind).rpartition('.')[-1]
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper'):
        raise ValueError(
            f'--amp: optim_wrapper.type={kind} is not OptimWrapper; set the '
            'precision in the config itself'
        )
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        return
    wrapper.type = 'mmpretrain.AutocastOptimWrapper'
    wrapper.pop('loss_scale', None)
    wrapper.dtype = 'bfloat16'


def set_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate with the batch size.

    Args:
        cfg (Config): changed in place.

    Raises:
        ValueError: if the config does not say for which batch size its
            learning rate is.
    """
    if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
        raise ValueError(
            '--auto-scale-lr: the config does not say for which batch size '
            'its learning rate is; add '
            'auto_scale_lr=dict(base_batch_size=...)'
        )
    cfg.auto_scale_lr.enable = True
    # mmengine counts the images of one step, not those of an update
    counts = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    if counts > 1:
        cfg.auto_scale_lr.base_batch_size /= counts


def set_atomic_checkpoints(cfg: Config) -> None:
    """Save checkpoints so that an interruption never costs one.

    mmengine's ``CheckpointHook`` becomes ``AtomicCheckpointHook``, with the
    same arguments; hooks of other types stay.

    Args:
        cfg (Config): changed in place.
    """
    hooks = cfg.setdefault('default_hooks', ConfigDict())
    hook = hooks.setdefault(
        'checkpoint', ConfigDict(type='CheckpointHook', interval=1)
    )
    if hook is not None and hook.get('type') == 'CheckpointHook':
        hook.type = f'mmpretrain.{AtomicCheckpointHook.__name__}'


def set_hooks(cfg: Config) -> None:
    """Give every training ``HealthHook`` and ``DeferredScalarsHook``.

    A config that replaces ``custom_hooks`` of its base loses them without a
    word, and those of other libraries never had them.

    Args:
        cfg (Config): changed in place.
    """
    hooks = cfg.get('custom_hooks') or []
    known = set()
    for hook in [*hooks, *(cfg.get('default_hooks') or {}).values()]:
        kind = hook.get('type') if isinstance(hook, dict) else type(hook)
        name = kind if isinstance(kind, str) else kind.__name__
        known.add(name.rpartition('.')[2])
    missing = [
        ConfigDict(type=f'mmpretrain.{hook.__name__}')
        for hook in (HealthHook, DeferredScalarsHook)
        if hook.__name__ not in known
    ]
    if missing:
        cfg.custom_hooks = [*hooks, *missing]


def set_training_defaults(
    cfg: Config,
    path: str,
    work_dir: str | None = None,
    pin_memory: bool = True,
    persistent_workers: bool = True,
) -> None:
    """Add what ``tools/train.py`` adds to every config.

    Args:
        cfg (Config): changed in place.
        path (str): of its file, which names the work folder.
        work_dir (str, optional): another work folder.
        pin_memory (bool): see :func:`set_dataloaders`.
        persistent_workers (bool): see :func:`set_dataloaders`.
    """
    set_work_dir(cfg, work_dir, path)
    set_dataloaders(cfg, pin_memory, persistent_workers)
    set_atomic_checkpoints(cfg)
    set_hooks(cfg)


def check_data_roots(cfg: Config) -> None:
    """Refuse folders that are missing or empty before anything is built.

    Data sets of this package have messages of their own and are left out.

    Args:
        cfg (Config): with the data loaders.

    Raises:
        FileNotFoundError: naming the folder, the key and the remedy.
    """
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        dataset, place = cfg.get(loader), loader
        while isinstance(dataset, dict) and 'dataset' in dataset:
            dataset, place = dataset['dataset'], f'{place}.dataset'
        if not isinstance(dataset, dict):
            continue
        root = dataset.get('data_root')
        if not isinstance(root, str) or not root or '://' in root:
            continue
        kind = dataset_class(dataset.get('type'), cfg.get('default_scope'))
        if kind is None or kind.__module__.startswith('mmssd.'):
            continue
        folder = Path(root)
        split = dataset.get('split')
        inside = folder / split if isinstance(split, str) else folder
        found = inside if inside.is_dir() else folder
        if not found.is_dir():
            problem = f'there is no folder {folder.absolute()}'
        elif not any(found.iterdir()):
            problem = f'the folder {found.absolute()} is empty'
        else:
            continue
        raise FileNotFoundError(
            f'{place}.data_root={root!r} ({kind.__name__}): {problem}. Put '
            f'the data there, or say where it is by --cfg-options '
            f'{place}.data_root=/path'
        )


def dataset_class(kind, scope: str | None) -> type | None:
    """Return the class of a data set by its type, if that is known."""
    if not isinstance(kind, str):
        return kind if isinstance(kind, type) else None
    from mmengine.registry import DATASETS

    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.get(kind)
