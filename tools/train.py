"""Train by a config of mmssd, mmpretrain, mmdet or mmseg.

Examples:
    python tools/train.py CONFIG
    python tools/train.py CONFIG --work-dir RUN --resume
    bash tools/dist_train.sh CONFIG 8 --amp
"""

import argparse
import sys

from mmssd.apis import cli
from mmssd.apis import config as configs
from mmssd.apis.annotations import check_annotations
from mmssd.apis.teacher_cache import set_teacher_cache
from mmssd.apis.train import build_runner
from mmssd.apis.transfer import set_transfer


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a value, from the newest '
        'whole one in the work folder, if there is one',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16, else float16 with loss scaling',
    )
    parser.add_argument(
        '--no-validate', action='store_true', help='do not validate'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size',
    )
    cli.add_common_arguments(parser)
    return cli.parse(parser, argv)


def prepare(args: argparse.Namespace) -> configs.Config:
    """Load the config and do what the flags ask for."""
    cfg = configs.load_config(args.config, args.cfg_options)
    configs.set_training_defaults(
        cfg,
        args.config,
        args.work_dir,
        not args.no_pin_memory,
        not args.no_persistent_workers,
    )
    if args.no_validate:
        configs.disable_validation(cfg)
    configs.check_data_roots(cfg)
    check_annotations(cfg)
    set_transfer(cfg)
    set_teacher_cache(cfg)
    if args.amp:
        configs.set_amp(cfg)
    if args.auto_scale_lr:
        configs.set_auto_scale_lr(cfg)
    return cfg


def main(argv: list[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    runner = None

    def explain_interrupt() -> str:
        if runner is None:
            return 'interrupted before the training'
        last = runner.message_hub.runtime_info.get('last_ckpt')
        if last is None:
            return f'interrupted at iteration {runner.iter}, nothing saved'
        return (
            f'interrupted at iteration {runner.iter}, saved: {last}\n'
            f'To go on: python tools/train.py {args.config} --work-dir '
            f'{runner.work_dir} --resume, with the other flags as before'
        )

    with cli.readable_errors(explain_interrupt):
        cfg = prepare(args)
        runner = build_runner(cfg, args.launcher, args.resume or False)
        runner.train()
        runner = None  # nothing may outlive the process group


if __name__ == '__main__':
    sys.exit(main())
