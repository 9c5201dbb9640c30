"""What the command-line tools share: arguments, and errors in one line."""

import argparse
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmengine.config import DictAction
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from torch import distributed

from mmssd.models.utils.plan import SetupError

# What bad input raises; anything else is a fault, shown in full.
USER_ERRORS = (
    AssertionError,  # of the libraries' data sets
    FloatingPointError,
    ImportError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
)
INTERRUPTED = 130  # exit status of a program ended by Ctrl-C


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every tool that runs a config.

    Args:
        parser (argparse.ArgumentParser): changed in place.
    """
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; by default what the config '
        'says, else work_dirs/<config name>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, as key.subkey=value; '
        'lists as key="[a,b]" or key=a,b, without blanks',
    )
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='do not pin the memory of the data loaders',
    )
    parser.add_argument(
        '--no-persistent-workers',
        action='store_true',
        help='start the workers of the data loaders anew at each epoch',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started the processes; none: a single one',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, metavar='N'
    )


def parse(parser: argparse.ArgumentParser, argv: list[str] | None):
    """Parse the arguments, and tell mmengine the local rank.

    Args:
        parser (argparse.ArgumentParser): with the common arguments.
        argv (list[str], optional): instead of the command line.

    Returns:
        argparse.Namespace: the arguments.
    """
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@contextmanager
def readable_errors(
    on_interrupt: Callable[[], str] | None = None,
    also: tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """End the program with one sentence where the input is at fault.

    Bad input, up to the first training step, and a non-finite loss at any
    time end it with status 1 and one message; where it happened goes to the
    log file, or to the screen with ``MMSSD_TRACEBACK=1``. All else, being a
    fault of the program, is shown in full. Ctrl-C ends it with status 130.

    Args:
        on_interrupt (Callable, optional): gives the sentence for Ctrl-C.
        also (tuple): further errors of a tool that say all in a sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        message = on_interrupt() if on_interrupt else 'interrupted'
        if os.environ.get('RANK', '0') == '0':
            print(f'\n{message}', file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (*USER_ERRORS, *also) as error:
        if os.environ.get('MMSSD_TRACEBACK') == '1' or not _is_input(error):
            raise
        log = _write_to_log(traceback.format_exc())
        where = f'\n(where it happened: {log})' if log else ''
        print(f'error: {explain(error)}{where}', file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        # of mmengine's data sets, when every sample is None
        if 'Cannot find valid image' not in str(error):
            raise
        print(
            'error: no image could be read, of very many that were tried: '
            'the broken ones are named above and in the log. Check data_root '
            'and the transform that loads images',
            file=sys.stderr,
        )
        sys.exit(1)
    finally:
        if distributed.is_available() and distributed.is_initialized():
            # A wrapped model keeps the threads of gloo alive; one that has
            # to wait for the interpreter while that shuts down aborts it.
            gc.collect()
            distributed.destroy_process_group()
            gc.collect()


def _is_input(error: BaseException) -> bool:
    """Whether an error is of the input rather than of the program."""
    if isinstance(error, (FloatingPointError, SetupError)):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    return not any(frame.name == 'run_iter' for frame in frames)


def explain(error: BaseException) -> str:
    """Say an error without its type, or the tracebacks of worker processes.

    Args:
        error (BaseException): any.

    Returns:
        str: the sentence.
    """
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # str(error) quotes it
    if text.startswith('Caught '):  # in a worker of a data loader
        text = text.rpartition(f'\n{type(error).__name__}: ')[-1]
    # mmengine's says where in its own documentation to read on
    text = text.partition(' More details can be found at ')[0]
    return text.strip() or type(error).__name__


def _write_to_log(text: str) -> str | None:
    """Append to the log file of the runner; its path, if there is one."""
    if DefaultScope.get_current_instance() is None:
        return None
    for logger in reversed(MMLogger._instance_dict.values()):
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                record = logging.LogRecord(
                    'mmssd', logging.ERROR, '', 0, text, None, None
                )
                handler.emit(record)
                return handler.baseFilename
    return None
