"""Print a config with its bases merged, as tools/train.py runs it.

What is printed is a config itself. With --plain it is without what
tools/train.py adds: work folder, arguments of the data loaders, whole
checkpoints (AtomicCheckpointHook), the watch over the run (HealthHook) and
numbers that wait for the log (DeferredScalarsHook).
The hook that logs the proven initialisation (TransferHook) is left out, as
it needs the checkpoint.

Examples:
    python tools/misc/print_config.py CONFIG
    python tools/misc/print_config.py CONFIG --cfg-options model.num_global=1
    python tools/misc/print_config.py CONFIG > resolved.py
"""

import argparse
import sys

from mmengine.config import DictAction

from mmssd.apis import config as configs
from mmssd.apis.cli import readable_errors


def main(argv: list[str] | None = None) -> None:
    """Print it."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--plain', action='store_true', help='only what the files say'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, as key.subkey=value; '
        'lists as key="[a,b]" or key=a,b, without blanks',
    )
    args = parser.parse_args(argv)
    with readable_errors():
        cfg = configs.load_config(args.config, args.cfg_options)
        if not args.plain:
            configs.set_training_defaults(cfg, args.config)
        print(cfg.pretty_text.rstrip())


if __name__ == '__main__':
    sys.exit(main())
