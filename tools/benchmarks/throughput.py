r"""Time of a training step against that of its bare networks, and peers.

All is measured in turn in one run, in rounds, on the same images and in the
same precision; the table gives medians and the spread over the rounds.

* limit: forward and backward of every network as often as the method runs
  it, projectors and dropout passes included, and the optimizer; no objective;
* step: the whole training step on the same views, objectives included;
* full: the step from uint8 images, views made on the device, for configs
  whose preprocessor does that;
* run: an iteration of the Runner, with the real pipeline and its hooks;
* data: the pipeline alone; it and run take a multiple of the workers as
  steps, after untimed ones that bring the workers into their rhythm;
* parts: what an iteration of the Runner is spent on;
* start: from the start of Python to the end of the first iteration.

Peak memory is, on a GPU, what was allocated beyond what all sides keep there;
on a CPU, what was resident of the whole process.

--peers adds mmpretrain's SwAV or MoCo beside ours, with equal networks,
crops, batch, optimizer and workers, as runs. --adapter adds any other code:
a Python file with `make_step(views, device)`, which returns a function that
does one training step; --checkout is put on its path. docs/performance.md
says how to read the numbers.

Examples:
    python tools/benchmarks/throughput.py \
        configs/demo/oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py
    python tools/benchmarks/throughput.py \
        configs/oss/oss_resnet18-resnet50_8xb32-coslr-200e_in1k.py \
        --data jpeg --measure all --batch-size 8 16 --amp --out step.json
    python tools/benchmarks/throughput.py \
        configs/seed/seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py \
        --data memory --image-size 32 --views 2x32 --cifar-stem \
        --peers swav moco --num-workers 2 --communication 8 64
    python tools/benchmarks/throughput.py \
        configs/seed/seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py \
        --views 1x32 --cifar-stem --processes 1 2 --threads 1
"""

import argparse
import contextlib
import copy
import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.apis import benchmark
from mmssd.apis import config as configs
from mmssd.apis.cli import readable_errors
from mmssd.models.distillers.distill_classifier import DistillClassifier

MEASURES = ('limit', 'step', 'full', 'run', 'data', 'parts', 'start')
ALONE = ('run', 'data', 'parts', 'start')  # of one process
TRAIN = Path(__file__).parents[1] / 'train.py'
START_TIMEOUT = 600  # seconds


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='config of a Distiller or DistillClassifier')
    add(
        '--measure',
        nargs='+',
        choices=[*MEASURES, 'all'],
        default=['limit', 'step', 'full'],
        help='see above (default: limit step full)',
    )
    add(
        '--batch-size',
        nargs='+',
        type=int,
        metavar='N',
        help='images, one or several to sweep (default: of the config)',
    )
    add(
        '--views',
        nargs='+',
        metavar='NxSIZE',
        help='views of an image, such as 2x224 6x96 (default: those of the '
        'preprocessor or pipeline)',
    )
    add(
        '--data',
        choices=['config', 'memory', 'jpeg'],
        default='config',
        help='images of the config; or made-up ones: square in memory, or '
        'JPEG files of 500 x 375 pixels for the pipeline of the config',
    )
    add('--images', type=int, default=1024, help='number of made-up ones')
    add('--image-size', type=int, default=32, help='of those in memory')
    add('--data-dir', type=Path, help='keep the JPEG files there')
    add(
        '--num-workers',
        type=int,
        help='that read (default: of the config; of peers, both sides, one '
        'per thread)',
    )
    add(
        '--head-layers',
        action='store_true',
        help='the limit counts layers of heads that their papers count among '
        "the networks: DINO's last layer, the connectors of OFD",
    )
    add('--cifar-stem', action='store_true', help='ResNets for 32 pixels')
    add('--amp', action='store_true', help='autocast')
    add('--rounds', type=int, default=5, help='repetitions')
    add(
        '--steps',
        type=int,
        default=3,
        help='steps per repetition, at least; of run, data and peers a '
        'multiple of the workers',
    )
    add('--device', help='cpu, cuda, ...; by default the best')
    add('--threads', type=int, help='of the CPU, per process')
    add(
        '--processes',
        nargs='+',
        type=int,
        default=[1],
        metavar='W',
        help='limit and step in so many processes, one or several to compare',
    )
    add('--peers', nargs='+', choices=benchmark.PEERS, default=[])
    add('--prototypes', type=int, default=3000, help='of the SwAV peers')
    add('--queue', type=int, default=4096, help='of the MoCo peers')
    add(
        '--communication',
        nargs='+',
        type=int,
        default=[],
        metavar='W',
        help='count the bytes that a step sends in so many processes',
    )
    add('--adapter', type=Path, metavar='FILE', help='see above')
    add('--checkout', type=Path, metavar='FOLDER', help='see above')
    add(
        '--cpu-time',
        action='store_true',
        help='count the time of the processor instead of the clock on the '
        'wall: for a CPU that others keep busy, with one thread and no '
        'workers',
    )
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings of the config to override, as key.subkey=value',
    )
    add('--out', metavar='FILE', help='write JSON there')
    args = parser.parse_args(argv)
    if 'all' in args.measure:
        args.measure = list(MEASURES)
    return args


def check_args(args: argparse.Namespace) -> None:
    """Refuse values that cannot be.

    Raises:
        ValueError: naming the argument.
    """
    for name in ('rounds', 'steps', 'images', 'image_size'):
        if getattr(args, name) < 1:
            raise ValueError(
                f'--{name.replace("_", "-")} {getattr(args, name)}: must be '
                'at least 1'
            )
    for name in ('batch_size', 'processes'):
        if any(value < 1 for value in getattr(args, name) or ()):
            raise ValueError(
                f'--{name.replace("_", "-")} {getattr(args, name)}: all must '
                'be at least 1'
            )
    if any(number < 2 for number in args.communication):
        raise ValueError(
            f'--communication {args.communication}: all must be at least 2'
        )
    alone = [name for name in args.measure if name in ALONE]
    others = [*alone, *args.peers]
    others += ['the adapter'] * (args.adapter is not None)
    others += ['the communication'] * bool(args.communication)
    if max(args.processes) > 1 and others:
        raise ValueError(
            f'--processes {max(args.processes)} is for limit and step; '
            f'measure {", ".join(others)} in another call'
        )
    if args.num_workers is not None and args.num_workers < 0:
        raise ValueError(f'--num-workers {args.num_workers}: must be >= 0')
    if args.checkout is not None and args.adapter is None:
        raise ValueError(
            f'--checkout {args.checkout}: nothing runs it; give --adapter, '
            'a file with make_step(views, device)'
        )
    clock_of(args)
    other = args.device and torch.device(args.device).type != get_device()
    if other and (alone or args.peers):
        raise ValueError(
            f'--device {args.device}: a Runner takes {get_device()}, the '
            'best there is; hide it from the process, for example by '
            'CUDA_VISIBLE_DEVICES='
        )


def clock_of(args: argparse.Namespace) -> Callable[[], float]:
    """Return the clock that the arguments ask for."""
    return benchmark.choose_clock(
        args.cpu_time,
        args.threads,
        args.num_workers,
        max(args.processes),
        args.device,
    )


def load(args: argparse.Namespace, batch: int | None, folder: str) -> Config:
    """Load the config and do what the arguments ask for."""
    cfg = configs.load_config(args.config, args.cfg_options)
    if cfg.get('teacher_cache') or (cfg.model.get('teacher') or {}).get(
        'cache'
    ):
        raise ValueError(
            'the config has a teacher cache: tools/benchmarks/'
            'teacher_cache.py measures what that gains'
        )
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    views = benchmark.read_views(args.views, cfg)
    _check_kind(args, cfg, views)
    benchmark.set_images(
        cfg,
        args.data,
        args.data_dir or Path(folder) / 'jpegs',
        args.images,
        args.image_size,
        views,
    )
    if args.cifar_stem:
        benchmark.set_cifar_stem(cfg)
    if args.amp:
        configs.set_amp(cfg)
    # every step is an update: sides would take turns in a share of them
    cfg.optim_wrapper.accumulative_counts = 1
    if batch is not None:
        cfg.train_dataloader.batch_size = batch
    if args.num_workers is not None:
        cfg.train_dataloader.num_workers = args.num_workers
    workers = cfg.train_dataloader.get('num_workers')
    if (
        args.cpu_time
        and workers
        and {'run', 'data', 'parts'} & {*args.measure}
    ):
        raise ValueError(
            f'--cpu-time knows nothing of workers, but the config has '
            f'{workers}: give --num-workers 0'
        )
    teacher = cfg.model.get('teacher')
    if teacher and teacher.get('frozen', True):
        # its time does not depend on its weights
        teacher.update(checkpoint='random')
        teacher.extra_keys = None
    if isinstance(cfg.model.get('momentum'), dict):
        cfg.model.momentum.final_decay = None  # needs a runner's progress
    cfg.model.data_preprocessor = cfg.model.get('data_preprocessor')
    return cfg


def _check_kind(
    args: argparse.Namespace, cfg: Config, views: list[tuple[int, int]]
) -> None:
    """Refuse what a supervised distiller does not have."""
    if str(cfg.model.type).rpartition('.')[-1] != DistillClassifier.__name__:
        return
    if args.data != 'config':
        raise ValueError(
            f'--data {args.data}: made-up images have no labels, which '
            'DistillClassifier learns; leave it out (limit and step need no '
            'images)'
        )
    if sum(number for number, _ in views) != 1:
        raise ValueError(
            'DistillClassifier takes one view of an image: give --views '
            f'1x{views[0][1]}'
        )


def build(cfg: Config, device: torch.device) -> nn.Module:
    """Build the model as in the middle of a training."""
    model = MODELS.build(cfg.model)
    benchmark.set_midway(model)
    if isinstance(model, DistillClassifier):
        for head in model.distill_heads.values():
            if hasattr(head, 'prepare'):
                head.prepare(model.teacher)
    model = model.to(device)
    model.train()
    return model


def synchronise(
    cfg: Config, model: nn.Module, device: torch.device
) -> nn.Module:
    """Give a model of several processes the batch norms that a run has.

    Args:
        cfg: whose ``sync_bn`` says which.
        model: to convert.
        device: SyncBN is for GPUs alone.
    """
    if get_world_size() > 1 and device.type == 'cuda' and cfg.get('sync_bn'):
        return convert_sync_batchnorm(model, cfg.sync_bn)
    return model


def prepare(
    args: argparse.Namespace, cfg: Config
) -> dict[str, Callable[[], None]]:
    """Build model, optimizer and views; return what is to be timed."""
    device = torch.device(args.device or get_device())
    scope = cfg.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        model = synchronise(cfg, build(cfg, device), device)
        parallel = get_world_size() > 1
        networks = benchmark.NetworksAlone(
            # two wrappers of one model would both wait for its gradients
            copy.deepcopy(model) if parallel else model,
            args.head_layers,
        )
        modules = {'limit': networks, 'step': model}
        if parallel:
            ids = [device.index] if device.type == 'cuda' else None
            modules = {
                name: MMDistributedDataParallel(
                    module,
                    device_ids=ids,
                    broadcast_buffers=False,
                    find_unused_parameters=True,
                )
                for name, module in modules.items()
            }
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        limit_wrapper = (
            build_optim_wrapper(networks.model, cfg.optim_wrapper)
            if parallel
            else wrapper
        )
    batch = cfg.train_dataloader.batch_size
    kinds = benchmark.read_views(args.views, cfg)
    views = [
        torch.randn(batch, 3, size, size, device=device)
        for number, size in kinds
        for _ in range(number)
    ]
    if getattr(model, 'channels_last', False):
        views = [
            v.contiguous(memory_format=torch.channels_last) for v in views
        ]
    inputs = benchmark.loss_inputs(model, views)

    def limit() -> None:
        with limit_wrapper.optim_context(modules['limit']):
            loss = modules['limit'](views)
        limit_wrapper.update_params(loss)

    def step() -> None:
        with wrapper.optim_context(modules['step']):
            losses = modules['step'](**inputs, mode='loss')
        loss, _ = model.parse_losses(losses)
        wrapper.update_params(loss)

    timed = dict(limit=limit, step=step)
    if hasattr(model.data_preprocessor, 'recipes') and not parallel:
        side = (
            args.image_size
            if args.data == 'memory'
            else max(size for _, size in kinds)
        )
        images = torch.randint(
            0, 256, (batch, 3, side, side), dtype=torch.uint8, device=device
        )

        def full() -> None:
            data = dict(inputs=images, data_samples=inputs['data_samples'])
            model.train_step(data, wrapper)

        timed['full'] = full
    return {name: f for name, f in timed.items() if name in args.measure}


def read_adapter(
    args: argparse.Namespace, cfg: Config, device: torch.device
) -> Callable[[], None]:
    """Return the training step of other code.

    Raises:
        FileNotFoundError: if file or checkout are missing.
        ValueError: if the file has no ``make_step``.
    """
    for path in (args.adapter, args.checkout):
        if path is not None and not path.exists():
            raise FileNotFoundError(f'{path} does not exist')
    if args.checkout is not None:
        sys.path.insert(0, str(args.checkout.absolute()))
    spec = importlib.util.spec_from_file_location('adapter', args.adapter)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, 'make_step'):
        raise ValueError(
            f'--adapter {args.adapter}: it has no make_step(views, device)'
        )
    batch = cfg.train_dataloader.batch_size
    views = [
        torch.randn(batch, 3, size, size, device=device)
        for number, size in benchmark.read_views(args.views, cfg)
        for _ in range(number)
    ]
    return module.make_step(views, device)


def measure_case(
    args: argparse.Namespace, batch: int | None, folder: str
) -> dict:
    """Measure all of one batch size."""
    cfg = load(args, batch, folder)
    batch = cfg.train_dataloader.batch_size
    record = dict(
        batch_size=batch, views=benchmark.read_views(args.views, cfg)
    )
    # a Runner sets it for the whole process: all sides or none
    torch.backends.cudnn.benchmark = bool(
        (cfg.get('env_cfg') or {}).get('cudnn_benchmark')
    )
    timed = prepare(args, cfg)
    before, counts, after = {}, {}, {}
    device = torch.device(args.device or get_device())
    if args.adapter:
        timed['adapter'] = read_adapter(args, cfg, device)
    if {'run', 'data', 'parts'} & set(args.measure):
        loop = benchmark.stepped_loop(cfg, folder, f'run_{batch}')
        sides = dict(run=loop.advance, data=loop.fetch)
        for name, side in sides.items():
            if name not in args.measure:
                continue
            timed[name], after[name] = side, loop.rest
            before[name] = partial(loop.settle, side)
            counts[name] = loop.whole(args.steps)
    if timed:
        record['results'] = benchmark.measure(
            timed,
            args.rounds,
            args.steps,
            batch,
            before=before,
            clock=clock_of(args),
            counts=counts,
            after=after,
        )
    if 'parts' in args.measure:
        record['parts'] = benchmark.measure_parts(
            loop, args.steps, clock_of(args)
        )
    if 'start' in args.measure:
        record['start_s'] = measure_start(cfg, folder)
    if args.communication:
        record['communication'] = {
            number: communication(args, cfg, number)
            for number in args.communication
        }
    if args.peers:
        record['peer_workers'] = peer_workers(args)
        record['peers'] = {
            peer: measure_peer(args, cfg, peer, folder) for peer in args.peers
        }
    return record


def communication(
    args: argparse.Namespace, cfg: Config, processes: int
) -> dict:
    """Count the bytes of a step on the CPU."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build(cfg, torch.device('cpu'))
    views = [
        torch.randn(cfg.train_dataloader.batch_size, 3, size, size)
        for number, size in benchmark.read_views(args.views, cfg)
        for _ in range(number)
    ]
    return benchmark.count_communication(model, views, processes)


def peer_workers(args: argparse.Namespace) -> int:
    """Return how many processes read on each side of a comparison.

    Views in the pipeline take one thread of the process that reads, views of
    a batch all threads: without workers the pipeline would leave cores idle.
    """
    if args.num_workers is not None:
        return args.num_workers
    return 0 if args.cpu_time else torch.get_num_threads()


def measure_peer(
    args: argparse.Namespace, cfg: Config, peer: str, folder: str
) -> dict:
    """Measure runs of one method by mmpretrain and by ours."""
    dataset = cfg.train_dataloader.dataset
    load = [
        step
        for step in dataset.get('pipeline', ())
        if 'LoadImage' in str(step['type'])
    ]
    dataset = {k: v for k, v in dataset.items() if k != 'pipeline'}
    # a batch of device-side views needs images of one size
    fit = [dict(type='Resize', scale=(256, 256))] if load else []
    neck = cfg.model.get('neck') or {}
    width = neck.get('in_channels') or _feature_width(cfg)
    batch = cfg.train_dataloader.batch_size
    sides = benchmark.peer_configs(
        peer,
        cfg.model.backbone,
        width,
        benchmark.read_views(args.views, cfg),
        batch,
        dataset,
        load,
        fit,
        args.prototypes,
        args.queue,
    )
    loops = {}
    for name, side in sides.items():
        side.train_dataloader.num_workers = peer_workers(args)
        loops[name] = benchmark.stepped_loop(
            side,
            folder,
            f'{peer}_{name}_{batch}'.replace(' ', '_'),
            hooks=name != 'mmpretrain',
        )
    return benchmark.measure(
        {name: loop.advance for name, loop in loops.items()},
        args.rounds,
        args.steps,
        batch,
        base='mmpretrain',
        before={
            name: partial(loop.settle, loop.advance)
            for name, loop in loops.items()
        },
        clock=clock_of(args),
        counts={name: loop.whole(args.steps) for name, loop in loops.items()},
        after={name: loop.rest for name, loop in loops.items()},
    )


def _feature_width(cfg: Config) -> int:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(cfg.model.backbone).eval()
    with torch.no_grad():
        output = backbone(torch.zeros(1, 3, 64, 64))
    return (output[-1] if isinstance(output, tuple) else output).size(1)


def measure_start(cfg: Config, folder: str) -> float:
    """Return seconds from the start of Python to the first iteration.

    Twice, and the second time counts: files and compiled code are cached.
    """
    cfg = Config(cfg.to_dict())
    cfg.custom_imports = dict(imports=['mmssd', 'mmssd.apis.benchmark'])
    cfg.custom_hooks = [
        dict(type='HealthHook'),
        dict(type='FirstIterationHook', priority='LOWEST'),
    ]
    path = Path(folder) / 'start.py'
    cfg.dump(path)
    command = [sys.executable, str(TRAIN), str(path)]
    command += ['--work-dir', str(Path(folder) / 'start')]
    for _ in range(2):
        done = subprocess.run(
            command,
            env={**os.environ, benchmark.STARTED: str(time.time())},
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
        )
        found = re.search(r'first iteration after ([\d.]+) s', done.stdout)
        if found is None:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise ValueError(
                f'the training did not begin: {" ".join(said)} '
                f'(exit status {done.returncode})'
            )
    return float(found[1])


# --- processes --------------------------------------------------------------


def start_processes(argv: list[str], number: int) -> dict:
    """Run this tool in several processes; return the record of rank 0."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'record.json'
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, *argv, '--out', str(out)],
                env={
                    **os.environ,
                    'RANK': str(rank),
                    'LOCAL_RANK': str(rank),
                    'WORLD_SIZE': str(number),
                    'MASTER_ADDR': '127.0.0.1',
                    'MASTER_PORT': str(port),
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(number)
        ]
        errors = [worker.communicate()[1] for worker in workers]
        if any(worker.returncode for worker in workers):
            raise ValueError(
                f'{number} processes: {errors[0].strip() or errors[-1]}'
            )
        return json.loads(out.read_text())


def join_processes(args: argparse.Namespace) -> None:
    """Become one of several processes, if the environment says so."""
    if 'RANK' not in os.environ or torch.distributed.is_initialized():
        return
    device = args.device or get_device()
    if torch.device(device).type == 'cuda':
        args.device = f'cuda:{os.environ["LOCAL_RANK"]}'
        torch.cuda.set_device(args.device)
    torch.distributed.init_process_group(
        'nccl' if torch.device(device).type == 'cuda' else 'gloo'
    )


def efficiency(cases: list[dict]) -> None:
    """Compare the throughput of W processes with W times that of one.

    Args:
        cases: with ``processes``, ``batch_size`` and ``results``; each row
            of more than one process gets ``efficiency``.
    """
    single = {
        case['batch_size']: case.get('results', {})
        for case in cases
        if case['processes'] == 1
    }
    for case in cases:
        base = single.get(case['batch_size'])
        if case['processes'] == 1 or base is None:
            continue
        for name, row in case.get('results', {}).items():
            # images of each process in the time that all of them take
            row['efficiency'] = base[name]['median_ms'] / row['median_ms']


# --- output -----------------------------------------------------------------


def show(case: dict) -> str:
    """Return the table of one case."""
    views = ' '.join(f'{number}x{size}' for number, size in case['views'])
    lines = [
        f'batch {case["batch_size"]}, views {views}, '
        f'{case["processes"]} process(es)'
    ]
    tables = [('to limit', case.get('results', {}))]
    tables += [
        (f'{name} to mmpretrain', rows)
        for name, rows in case.get('peers', {}).items()
    ]
    for title, rows in tables:
        if not rows:
            continue
        lines.append(
            f'{"":14s} {"median ms":>10s} {"least":>8s} {"most":>8s} '
            f'{"images/s":>9s} {"peak MiB":>9s} '
            f'{title}: of medians, median by rounds'
        )
        for name, row in rows.items():
            peak = row['peak_mib']
            lines.append(
                f'{name:14s} {row["median_ms"]:10.1f} {row["least_ms"]:8.1f} '
                f'{row["most_ms"]:8.1f} {row["images_per_s"]:9.1f} '
                + (f'{"-":>9s}' if peak is None else f'{peak:9.0f}')
                + (
                    ''
                    if row['median_of_ratios'] is None
                    else f' {row["ratio_of_medians"]:.3f}, '
                    f'{row["median_of_ratios"]:.3f}'
                )
                + (
                    f', efficiency {row["efficiency"]:.2f}'
                    if 'efficiency' in row
                    else ''
                )
            )
    if 'parts' in case:
        total = case['parts']['total']
        lines.append('parts of an iteration, ms:')
        lines += [
            f'  {name:22s} {value:9.2f} {value / total:6.1%}'
            for name, value in case['parts'].items()
        ]
    for number, rows in case.get('communication', {}).items():
        total = sum(row['sent'] for row in rows.values())
        lines.append(
            f'{number} processes: each sends {total / 2**20:.2f} MiB a step'
        )
        lines += [
            f'  {name:32s} {row["calls"]:3d} x, {row["sent"] / 2**20:10.3f}'
            for name, row in rows.items()
        ]
    if 'start_s' in case:
        lines.append(f'start to first iteration: {case["start_s"]:.1f} s')
    return '\n'.join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse_args(argv)
    MMLogger.get_instance('throughput', log_level='ERROR')
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors())
        check_args(args)
        if args.threads:
            torch.set_num_threads(args.threads)
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        )
        join_processes(args)
        cases = []
        for processes in args.processes:
            if processes > 1 and get_world_size() == 1:
                given = sys.argv[1:] if argv is None else list(argv)
                cases += start_processes(given, processes)['cases']
                continue
            if 1 < get_world_size() != processes:
                continue  # that of another call
            for batch in args.batch_size or [None]:
                case = measure_case(args, batch, folder)
                cases.append(dict(case, processes=processes))
        efficiency(cases)
        if get_rank():
            return
        record = dict(
            config=Path(args.config).stem,
            machine=benchmark.machine(),
            arguments={
                key: str(value) if isinstance(value, Path) else value
                for key, value in vars(args).items()
            },
            cases=cases,
        )
        where = record['machine']
        print(
            f'{record["config"]}, {where["gpu"] or where["cpu"]}, '
            f'{where["threads"]} threads, torch {where["torch"]}, '
            f'{where["date"]}{", time of the processor" * args.cpu_time}'
        )
        print('\n'.join(show(case) for case in cases))
        if args.out:
            Path(args.out).write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(main())
