"""Test a checkpoint by a config of mmssd, mmpretrain, mmdet or mmseg.

Examples:
    python tools/test.py CONFIG CHECKPOINT
    python tools/test.py CONFIG CHECKPOINT --out metrics.json
    python tools/test.py CONFIG CHECKPOINT --ten-crop --ensemble SECOND.pth
    bash tools/dist_test.sh CONFIG CHECKPOINT 8 --out predictions.pkl
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmssd.apis import cli, tta
from mmssd.apis import config as configs
from mmssd.apis.train import build_runner
from mmssd.models import EnsembleClassifier
from mmssd.models.distillers.teacher import REFERENCE
from mmssd.models.utils.checkpoint import extract_state_dict, load_checkpoint

LISTED = 10  # keys in a message
# what --out writes by the suffix of the file
ITEMS = {'.pkl': 'predictions', '.pickle': 'predictions', '.json': 'metrics'}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out',
        metavar='FILE',
        help='write the metrics to FILE.json or the predictions to FILE.pkl',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='augment at test time, by tta_model and tta_pipeline of the '
        'config; configs of mmpretrain without them average over a flip',
    )
    parser.add_argument(
        '--ten-crop',
        action='store_true',
        help='average over the corners, the centre and their flips, in '
        'place of the CenterCrop of the test pipeline (classifiers)',
    )
    parser.add_argument(
        '--ensemble',
        nargs='+',
        metavar='CHECKPOINT',
        help='further checkpoints of the same config to average with '
        '(classifiers)',
    )
    parser.add_argument(
        '--allow-missing',
        action='store_true',
        help='test also where the checkpoint lacks keys of the model, which '
        'then keep their initial values',
    )
    cli.add_common_arguments(parser)
    return cli.parse(parser, argv)


def set_tta(cfg: Config) -> None:
    """Test every image several times.

    Args:
        cfg (Config): changed in place.

    Raises:
        ValueError: if the config does not say how.
    """
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if cfg.get('default_scope') == 'mmpretrain':
        if 'tta_model' not in cfg:
            cfg.tta_model = ConfigDict(type='AverageClsScoreTTA')
        if 'tta_pipeline' not in cfg:
            flips = [dict(type='RandomFlip', prob=p) for p in (1.0, 0.0)]
            pipeline = deepcopy(dataset.pipeline)
            packed = pipeline[-1]
            pipeline[-1] = dict(
                type='TestTimeAug', transforms=[flips, [packed]]
            )
            cfg.tta_pipeline = pipeline
    missing = [k for k in ('tta_model', 'tta_pipeline') if k not in cfg]
    if missing:
        raise ValueError(
            f'--tta: the config has no {" and no ".join(missing)}'
        )
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    dataset.pipeline = cfg.tta_pipeline


def check_weights(
    runner: Runner, path: str, allow_missing: bool = False
) -> None:
    """Refuse a checkpoint of another model before an hour of testing.

    Args:
        runner (Runner): with its model.
        path (str): of the checkpoint.
        allow_missing (bool): warn of missing keys only. Defaults to False.

    Raises:
        ValueError: if not one key of it fits, a shape differs, or keys of
            the model are missing.
    """
    model = runner.model
    model = getattr(model, 'module', model)
    wanted, given = model.state_dict(), {}
    for key, value in extract_state_dict(load_checkpoint(path)).items():
        # a model of test-time augmentation holds the tested one
        for name in (key, f'module.{key}'):
            if name in wanted:
                given[name] = value
    if not given:
        raise ValueError(
            f'checkpoint {path} is of another model: not one key of it is in '
            f'{type(model).__name__} (it wants {next(iter(wanted))}, ...)'
        )
    for name, value in given.items():
        if name.rpartition('.')[2] in REFERENCE:
            continue  # the path of a frozen teacher is as long as it is
        if value.shape != wanted[name].shape:
            raise ValueError(
                f'checkpoint {path} is of another model: {name} is '
                f'{tuple(value.shape)}, not {tuple(wanted[name].shape)}'
            )
    missing = sorted(
        name
        for name in wanted.keys() - given.keys()
        if not name.endswith('num_batches_tracked')  # without any effect
    )
    if not missing:
        return
    text = f'{len(missing)} of {len(wanted)} keys are not in {path}: '
    text += ', '.join(missing[:LISTED])
    if len(missing) > LISTED:
        text += f' and {len(missing) - LISTED} more'
    if not allow_missing:
        raise ValueError(
            f'{text}. What was not trained cannot be tested: give the '
            'checkpoint of this model, or --allow-missing to test it with '
            'their initial values'
        )
    runner.logger.warning(f'{text}; they keep their initial values')


def load_ensemble(runner: Runner) -> None:
    """Load the members of an ensemble, before the testing begins.

    Args:
        runner (Runner): with the model, which may be wrapped.
    """
    for module in runner.model.modules():
        if isinstance(module, EnsembleClassifier):
            module.load()


def prepare(args: argparse.Namespace) -> Config:
    """Load the config and do what the flags ask for."""
    if args.out and Path(args.out).suffix not in ITEMS:
        raise ValueError(
            f'--out {args.out}: must end in .json (metrics) or .pkl '
            '(predictions)'
        )
    cfg = configs.load_config(args.config, args.cfg_options)
    load_checkpoint(args.checkpoint)  # or say now what is wrong with it
    if cfg.get('test_dataloader') is None:
        raise ValueError(f'config {args.config} has no test_dataloader')
    configs.set_work_dir(cfg, args.work_dir, args.config)
    configs.set_dataloaders(
        cfg, not args.no_pin_memory, not args.no_persistent_workers
    )
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.ensemble:
        for checkpoint in args.ensemble:
            load_checkpoint(checkpoint)
        tta.set_ensemble(cfg, [args.checkpoint, *args.ensemble])
        cfg.load_from = None
    if args.ten_crop:
        tta.set_ten_crop(cfg)
    if args.tta or args.ten_crop:
        set_tta(cfg)
    return cfg


def main(argv: list[str] | None = None) -> None:
    """Test."""
    args = parse_args(argv)
    with cli.readable_errors():
        cfg = prepare(args)
        runner = build_runner(cfg, args.launcher)
        if args.ensemble:
            load_ensemble(runner)
        else:
            check_weights(runner, args.checkpoint, args.allow_missing)
        item = ITEMS[Path(args.out).suffix] if args.out else None
        if item == 'predictions':
            runner.test_evaluator.metrics.append(DumpResults(args.out))
        metrics = runner.test()
        if item == 'metrics' and is_main_process():
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            mmengine.dump(metrics, args.out)
        runner = None  # nothing may outlive the process group


if __name__ == '__main__':
    sys.exit(main())
