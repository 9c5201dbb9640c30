"""Arguments and output that the analysis tools share."""

import argparse
import json
from collections.abc import Sequence

import torch
from mmengine.config import DictAction
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.runner import set_random_seed
from torch import Tensor

from .features import PARTS


def add_reading(
    parser: argparse.ArgumentParser,
    device: str = 'cpu, cuda, ...',
    batch_size: int = 256,
) -> None:
    """Add how images are read, and where features are computed.

    Args:
        parser: of the tool.
        device: what its help says of the device.
        batch_size: default number of images.
    """
    parser.add_argument(
        '--batch-size', type=int, default=batch_size, help='images per batch'
    )
    parser.add_argument(
        '--num-workers', type=int, default=0, help='processes that read'
    )
    parser.add_argument('--device', help=f'{device}; by default what there is')


def add_arguments(
    parser: argparse.ArgumentParser, kmeans: bool = False
) -> None:
    """Add what tells which network on which images.

    Args:
        parser: of the tool.
        kmeans: whether the tool clusters the features by scikit-learn, so
            on the CPU. Defaults to ``False``.
    """
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        help='of a run, or an exported backbone; none: the untrained network',
    )
    parser.add_argument(
        '--part',
        choices=PARTS,
        default='student',
        help='whose backbone (default: student)',
    )
    parser.add_argument(
        '--init-seed',
        type=int,
        default=0,
        help='of the weights of an untrained network (default: 0)',
    )
    what = 'and of what is done with its features'
    if kmeans:
        what = '(k-means runs on the CPU)'
    add_reading(parser, device=f'cpu, cuda, ..., of the network {what}')
    parser.add_argument(
        '--out', metavar='FILE', help='write the result there, too'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, as key.subkey=value',
    )


def read_features(
    args: argparse.Namespace, sets: Sequence[str] | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return features and labels of the bank and the query set.

    Args:
        args: of :func:`add_arguments`.
        sets: which of the two. Defaults to both.
    """
    from mmssd.apis.config import load_config

    from .from_config import SETS, features_by_config

    set_random_seed(args.init_seed)
    # mmengine would print every initialised parameter
    MMLogger.get_current_instance().setLevel('WARNING')
    return features_by_config(
        load_config(args.config, args.cfg_options),
        args.checkpoint,
        args.part,
        args.batch_size,
        args.num_workers,
        args.device or get_device(),
        sets or SETS,
    )


def to_device(
    args: argparse.Namespace, rows: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Put features and labels where the arguments want the work done.

    Args:
        args: of :func:`add_arguments`.
        rows: features and labels, on the CPU.
    """
    device = args.device or get_device()
    if torch.device(device).type == 'mps':
        device = 'cpu'  # the probes need float64, which it does not have
    features, labels = rows
    return features.to(device), labels.to(device)


def describe(args: argparse.Namespace, **results) -> str:
    """Return the results as JSON, with what they are of; write it, too."""
    record = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        part=args.part,
        **results,
    )
    text = json.dumps(record, indent=1)
    if args.out:
        with open(args.out, 'w') as file:
            file.write(text + '\n')
    return text
