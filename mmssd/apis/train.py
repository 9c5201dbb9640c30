"""Runners for the tools: any scope, any launcher, GPU or CPU."""

import datetime
import logging
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.logging import MMLogger, print_log
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from torch import nn

from mmssd.engine.hooks.completed_run_hook import CompletedRunHook
from mmssd.engine.hooks.health_hook import training_plan
from mmssd.models.utils.checkpoint import CheckpointError, load_checkpoint

# Environment variables in which launchers tell rank, size and local rank
LAUNCHERS = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': (
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'OMPI_COMM_WORLD_LOCAL_RANK',
    ),
}


class CheckedRunner(Runner):
    """A runner that counts its images before it builds schedulers.

    Schedules converted from epochs to iterations need the length of an
    epoch; with fewer images than a batch mmengine would say that it is 0,
    not why, before any hook could.
    """

    def build_param_scheduler(self, scheduler):
        """Build the schedulers of a training that has data.

        Raises:
            SetupError: if there are fewer images than one batch.
        """
        if isinstance(self._train_loop, BaseLoop):
            training_plan(self)
        return super().build_param_scheduler(scheduler)


class CPURunner(CheckedRunner):
    """A runner for several processes without a GPU.

    Layers of synchronised batch norm, which need a GPU, become plain ones.
    """

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model and replace what does not run on the CPU."""
        model = super().build_model(model)
        count = sum(
            'SyncBatchNorm' in type(module).__name__
            for module in model.modules()
        )
        if count:
            self.logger.warning(
                f'{count} SyncBatchNorm layers become BatchNorm: without a '
                'GPU, each process normalises its own images'
            )
            model = revert_sync_batchnorm(model)
        return model


def build_runner(
    config: Config, launcher: str = 'none', resume: bool | str = False
) -> Runner:
    """Build the runner of a config.

    Args:
        config (Config): complete, with ``work_dir``; changed in place.
        launcher (str): ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
            Defaults to ``'none'``.
        resume (bool | str): True or ``'auto'`` for the newest whole
            checkpoint of the work folder, from the start if there is none;
            a path for that one; False leaves it to the config. Defaults to
            False.

    Returns:
        Runner: of the type that the config asks for.

    Raises:
        FileNotFoundError: if the checkpoint to resume from does not exist.
        ValueError: if it is not whole, or the launcher started nothing.
    """
    if resume:
        set_resume(config, resume)
    config.launcher = launcher
    on_cpu = get_device() == 'cpu'
    if on_cpu and launcher != 'none':
        _start_on_cpu(config, launcher)
    if 'runner_type' in config:
        runner = RUNNERS.build(config)
    elif on_cpu and launcher != 'none':
        runner = CPURunner.from_cfg(config)
    else:
        runner = CheckedRunner.from_cfg(config)
    if resume:
        runner.register_hook(CompletedRunHook())
    return runner


def _start_on_cpu(config: Config, launcher: str) -> None:
    """Join the processes by gloo; mmengine would ask for a GPU driver."""
    names = LAUNCHERS[launcher]
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {launcher}: {", ".join(missing)} not set; start it '
            'by tools/dist_train.sh, tools/slurm_train.sh or mpirun'
        )
    rank, size, local_rank = (os.environ[name] for name in names)
    os.environ['LOCAL_RANK'] = local_rank
    if not is_distributed():
        dist_cfg = config.get('env_cfg', {}).get('dist_cfg', {})
        os.environ.setdefault('MASTER_ADDR', _first_host(launcher))
        os.environ.setdefault('MASTER_PORT', '29500')
        timeout = dist_cfg.get('timeout', 1800)
        torch.distributed.init_process_group(
            'gloo',
            rank=int(rank),
            world_size=int(size),
            timeout=datetime.timedelta(seconds=timeout),
        )
    wrapper = config.get('model_wrapper_cfg') or ConfigDict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=config.get('find_unused_parameters', False),
    )
    wrapper.device_ids = None
    config.model_wrapper_cfg = wrapper
    config.sync_bn = None


def _first_host(launcher: str) -> str:
    """The machine of rank 0."""
    nodes = os.environ.get('SLURM_NODELIST')
    if launcher != 'slurm' or not nodes:
        return '127.0.0.1'
    command = ['scontrol', 'show', 'hostname', nodes]
    return subprocess.check_output(command, text=True).split()[0]


def set_resume(config: Config, resume: bool | str) -> None:
    """Say in a config from which checkpoint to go on.

    Args:
        config (Config): with ``work_dir``; changed in place.
        resume (bool | str): True or ``'auto'``, or a path.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole checkpoint of a runner.
    """
    if resume is True or resume == 'auto':
        found = find_resume(config.work_dir)
        if found is None:
            # weights to start from, if the config names any, still count
            config.resume = False
            _log(f'no checkpoint in {config.work_dir}: starting anew')
            return
    else:
        found = str(Path(resume).expanduser())
        if not Path(found).is_file():
            raise FileNotFoundError(
                f'--resume {resume}: no such file. Without a value, --resume '
                f'takes the newest checkpoint of {config.work_dir}'
            )
        _check_resumable(found)
    _log(f'going on from {found}')
    config.resume, config.load_from = True, found


def find_resume(work_dir: str | Path) -> str | None:
    """Find the checkpoint from which an interrupted run goes on.

    The one that ``last_checkpoint`` names, also when the folder was moved;
    if that is cut short or gone, the newest one before it, with a warning.

    Args:
        work_dir (str | Path): of the run.

    Returns:
        str | None: its path, None if there is none that can be read.
    """
    folder = Path(work_dir)
    for path in _candidates(folder):
        try:
            _check_resumable(path)
        except (ValueError, OSError) as error:
            _log(f'{error}; trying an earlier one', logging.WARNING)
        else:
            return str(path)
    return None


def _candidates(folder: Path) -> Iterable[Path]:
    """The last checkpoint, then the others, newest first."""
    last = None
    pointer = folder / 'last_checkpoint'
    if pointer.is_file() and (text := pointer.read_text().strip()):
        last = Path(text)
        if not last.is_file():
            last = folder / last.name
        if last.is_file():
            yield last
    others = [
        path
        for path in folder.glob('*.pth')
        if re.fullmatch(r'(epoch|iter)_\d+', path.stem)
        and not (last and last.is_file() and path.samefile(last))
    ]
    yield from sorted(others, key=_progress, reverse=True)


def _progress(path: Path) -> tuple[float, int]:
    return path.stat().st_mtime, int(path.stem.rpartition('_')[-1])


def _check_resumable(path: str | Path) -> None:
    """Raise unless a checkpoint is whole and has what a runner needs."""
    content = load_checkpoint(path)
    missing = {'meta', 'state_dict', 'message_hub'} - content.keys()
    if missing:
        raise CheckpointError(
            f'checkpoint {path} has no {", ".join(sorted(missing))}: it '
            'holds weights, not the state of a run. To start from these '
            'weights, use --cfg-options load_from=... instead of --resume'
        )


def _log(message: str, level: int = logging.INFO) -> None:
    # before there is a runner, its logger would not show anything
    if MMLogger._instance_dict:
        print_log(message, 'current', level)
    elif os.environ.get('RANK', '0') == '0':
        print(message)
