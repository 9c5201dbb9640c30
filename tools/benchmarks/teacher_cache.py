r"""Gain of a teacher cache over running the teacher, and that nothing changes.

Makes the cache of a config on made-up images and under a teacher with random
weights (neither matters for the time), then trains with it and without it on
the same views, in turn. Tells the seconds of making the cache and of an
epoch, after how many epochs the cache has paid for itself, and by how much
the losses of the first steps differ. --epochs trains for so many, to show
what has been spent by the end of each.

Example:
    python tools/benchmarks/teacher_cache.py \
        configs/seed/seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py \
        --data memory --image-size 32 --views 1x32 --cifar-stem \
        --batch-size 64 --images 512 --draws 4 --epochs 6
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis import benchmark
from mmssd.apis import config as configs
from mmssd.apis.cli import readable_errors
from mmssd.apis.teacher_cache import cache_by_config, set_teacher_cache


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='config of a distiller with a frozen teacher')
    add('--data', choices=['config', 'memory', 'jpeg'], default='memory')
    add('--images', type=int, default=512, help='number of made-up ones')
    add('--image-size', type=int, default=32, help='of those in memory')
    add('--views', nargs='+', metavar='NxSIZE', help='as throughput.py')
    add('--cifar-stem', action='store_true', help='ResNets for 32 pixels')
    add('--batch-size', type=int, help='images (default: of the config)')
    add('--num-workers', type=int, default=0, help='that read')
    add('--queue', type=int, help='length of all queues')
    add('--draws', type=int, default=4, help='views of an image, in advance')
    add('--amp', action='store_true', help='autocast')
    add('--rounds', type=int, default=5, help='repetitions')
    add('--steps', type=int, default=3, help='steps per repetition')
    add('--epochs', type=int, default=0, help='to train for, on both sides')
    add('--threads', type=int, help='of the CPU')
    add(
        '--cpu-time',
        action='store_true',
        help='count the time of the processor, see throughput.py',
    )
    add('--out', metavar='FILE', help='write JSON there')
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace, folder: Path) -> Config:
    """Load the config and do what the arguments ask for."""
    cfg = configs.load_config(args.config)
    teacher = cfg.model.get('teacher')
    if not teacher or not teacher.get('frozen', True):
        raise ValueError(
            f'{args.config} has no frozen teacher: there is nothing to cache'
        )
    views = benchmark.read_views(args.views, cfg)
    benchmark.set_images(
        cfg, args.data, folder, args.images, args.image_size, views
    )
    if args.cifar_stem:
        benchmark.set_cifar_stem(cfg)
    if args.amp:
        configs.set_amp(cfg)
    loader = cfg.train_dataloader
    loader.num_workers = args.num_workers
    loader.sampler = dict(type='InfiniteSampler', shuffle=True)
    if args.batch_size is not None:
        loader.batch_size = args.batch_size
    for head in cfg.model.heads.values():
        if args.queue and 'queue_length' in head:
            head.queue_length = args.queue
    cfg.randomness = dict(seed=0)
    teacher.update(
        checkpoint=str(folder / 'teacher.pth'), layout='mmssd', prefix=''
    )
    _save_random_teacher(cfg)
    cfg.teacher_cache = dict(path=str(folder / 'cache'), draws=args.draws)
    return cfg


def _save_random_teacher(cfg: Config) -> None:
    torch.manual_seed(0)
    teacher = dict(cfg.model.teacher, checkpoint='random', extra_keys=None)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build({'type': 'Teacher', **teacher})
        network.init_weights()
    state = {
        key: value
        for key, value in network.state_dict().items()
        if key.startswith(('backbone.', 'neck.'))
    }
    torch.save(dict(state_dict=state), cfg.model.teacher.checkpoint)


def first_losses(loop: benchmark.SteppedTrainLoop, steps: int) -> list[float]:
    """Train for some steps; return their losses."""
    losses, model = [], loop.runner.model
    parse = model.parse_losses

    def spy(terms):
        total, logs = parse(terms)
        losses.append(total.item())
        return total, logs

    torch.manual_seed(1)  # which draws come up
    model.parse_losses = spy
    try:
        for _ in range(steps):
            loop.advance()
    finally:
        del model.parse_losses
    return losses


def spend_epochs(
    loops: dict[str, benchmark.SteppedTrainLoop],
    epochs: int,
    iterations: int,
    start: dict[str, float],
    clock: Callable[[], float],
) -> dict[str, list[float]]:
    """Train for some epochs; return the seconds spent by the end of each.

    Args:
        loops: by side; they take turns, an epoch each.
        epochs: of each.
        iterations: of an epoch.
        start: seconds that a side has spent before.
        clock: in seconds.
    """
    spent = {name: [] for name in loops}
    total = dict(start)
    for _ in range(epochs):
        for name, loop in loops.items():
            loop.settle(loop.advance)
            benchmark.wait()
            begin = clock()
            for _ in range(iterations):
                loop.advance()
            benchmark.wait()
            seconds = clock() - begin
            loop.rest(seconds / iterations)
            total[name] += seconds
            spent[name].append(total[name])
    return spent


def compare(args: argparse.Namespace, folder: Path) -> dict:
    """Return all numbers."""
    cfg = prepare(args, folder)
    clock = benchmark.choose_clock(
        args.cpu_time, args.threads, args.num_workers
    )
    start = clock()
    cache = cache_by_config(
        cfg,
        device=get_device(),
        batch_size=cfg.train_dataloader.batch_size,
        num_workers=args.num_workers,
        amp=args.amp,
    )
    seconds = clock() - start
    loops, losses = {}, {}
    for name, path in (('teacher', None), ('cache', str(cache.folder))):
        side = Config(cfg.to_dict())
        side.teacher_cache.path = path
        set_teacher_cache(side)
        loops[name] = benchmark.stepped_loop(side, folder, name)
        losses[name] = first_losses(loops[name], args.steps)
    batch = cfg.train_dataloader.batch_size
    results = benchmark.measure(
        {name: loop.advance for name, loop in loops.items()},
        args.rounds,
        args.steps,
        batch,
        base='teacher',
        before={
            name: partial(loop.settle, loop.advance)
            for name, loop in loops.items()
        },
        clock=clock,
        counts={name: loop.whole(args.steps) for name, loop in loops.items()},
        after={name: loop.rest for name, loop in loops.items()},
    )
    epochs = {
        name: row['median_ms'] / 1000 * cache.images / batch
        for name, row in results.items()
    }
    spent = spend_epochs(
        loops,
        args.epochs,
        max(round(cache.images / batch), 1),
        dict(teacher=0.0, cache=seconds),
        clock,
    )
    return dict(
        results=results,
        making_s=seconds,
        spent_s=spent,
        rows=cache.images * cache.draws,
        epoch_s=epochs,
        pays_after_epochs=pays_after(seconds, epochs),
        largest_relative_difference=max(
            abs(a - b) / abs(b)
            for a, b in zip(losses['cache'], losses['teacher'], strict=True)
        ),
        mib=sum(a.nbytes for a in cache.arrays.values()) / 2**20,
    )


def pays_after(seconds: float, epochs: dict[str, float]) -> float | None:
    """Return the epochs after which making a cache was worth it.

    Args:
        seconds: of making it.
        epochs: seconds of an epoch with ``teacher`` and with ``cache``.

    Returns:
        ``None`` if it never is.
    """
    gain = epochs['teacher'] - epochs['cache']
    return seconds / gain if gain > 0 else None


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse_args(argv)
    MMLogger.get_instance('teacher_cache', log_level='ERROR')
    with readable_errors():
        least = dict(rounds=1, steps=1, images=1, draws=1, epochs=0)
        for name, value in least.items():
            if getattr(args, name) < value:
                raise ValueError(
                    f'--{name} {getattr(args, name)}: must be at least {value}'
                )
        if args.threads:
            torch.set_num_threads(args.threads)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            found = compare(args, Path(folder))
        record = dict(
            config=Path(args.config).stem,
            machine=benchmark.machine(),
            arguments=vars(args),
            **found,
        )
        for name, row in found['results'].items():
            print(
                f'{name:8s} {row["median_ms"]:9.1f} ms an iteration '
                f'({row["least_ms"]:.1f} to {row["most_ms"]:.1f}), '
                f'{row["median_of_ratios"]:.3f} by rounds; '
                f'{found["epoch_s"][name]:.1f} s an epoch'
            )
        after = found['pays_after_epochs']
        print(
            f'making {found["rows"]} rows, {found["mib"]:.1f} MiB: '
            f'{found["making_s"]:.1f} s, '
            + (
                'which never pays'
                if after is None
                else f'paid back after {after:.1f} epochs'
            )
            + f'; losses differ by {found["largest_relative_difference"]:.1e}'
        )
        for epoch, (teacher, cached) in enumerate(
            zip(*found['spent_s'].values(), strict=True), start=1
        ):
            print(
                f'epoch {epoch}: {teacher:.1f} s with the teacher, '
                f'{cached:.1f} s with the cache and its making'
            )
        if args.out:
            Path(args.out).write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(main())
