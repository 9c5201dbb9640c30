"""Time of a training step against that of its bare networks.

Both are measured in turn in one run, on the same resident views and in the
same precision:

* limit: forward and backward of every network as often as the method runs
  it, projectors and dropout passes included, and the optimizer; no
  objective;
* step: the whole training step on the same views, objectives included;
* full: the step from uint8 images, views made on the device, for configs
  whose preprocessor does that.

Examples:
    python tools/benchmarks/throughput.py \
        configs/demo/oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py
    python tools/benchmarks/throughput.py \
        configs/oss/oss_resnet18-resnet50_8xb32-coslr-200e_in1k.py \
        --batch-size 8 --views 2x224 6x96 --amp --out step.json
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from mmssd.apis import config as configs
from mmssd.apis.cli import readable_errors
from mmssd.models.distillers.encodings import encode
from mmssd.models.utils.plan import Duration
from mmssd.models.utils.step import NETWORKS


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='config of a distiller')
    parser.add_argument(
        '--batch-size', type=int, help='images (default: that of the config)'
    )
    parser.add_argument(
        '--views',
        nargs='+',
        metavar='NxSIZE',
        help='views of an image, such as 2x224 6x96 (default: those of the '
        'preprocessor, if it makes them)',
    )
    parser.add_argument('--amp', action='store_true', help='autocast')
    parser.add_argument('--rounds', type=int, default=5, help='repetitions')
    parser.add_argument(
        '--steps', type=int, default=3, help='steps per repetition'
    )
    parser.add_argument('--device', help='cpu, cuda, ...; by default the best')
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument('--out', metavar='FILE', help='write JSON there')
    return parser.parse_args(argv)


def read_views(
    texts: list[str] | None, preprocessor: nn.Module
) -> list[tuple[int, int]]:
    """Return (number, size) of each kind of view.

    Raises:
        ValueError: if a text is no such pair, or nothing says the views.
    """
    if texts is None:
        groups = getattr(preprocessor, 'recipes', None)
        if not groups:
            raise ValueError(
                'the preprocessor of the config makes no views: give them by '
                '--views, for example --views 2x224 6x96'
            )
        return [(group.num, group.size) for group in groups]
    views = []
    for text in texts:
        number, _, size = text.partition('x')
        if not (number.isdigit() and size.isdigit()):
            raise ValueError(f'--views {text}: must be NUMBERxSIZE')
        views.append((int(number), int(size)))
    return views


def run_networks(model: nn.Module, views: list[Tensor]) -> Tensor:
    """Run each network as the heads need it; return a scalar to derive.

    Heads get nothing, so what is left is the networks' own cost.
    """
    num_global = model._count_global(views)
    total = views[0].new_zeros(())
    for name in NETWORKS:
        fields = getattr(model.needs, name)
        network = model._network(name)
        if not fields or network is None:
            continue
        seen = views
        if getattr(model.needs, f'{name}_views') == 'global':
            seen = views[:num_global]
        fixed = name == 'momentum' or getattr(network, 'frozen', False)
        with torch.set_grad_enabled(not fixed):
            found = encode(network.backbone, network.neck, seen, fields)
        if fixed:
            continue
        for outputs in (found.embeddings, found.dropout_embeddings):
            if outputs:
                total = total + torch.cat(outputs).float().square().mean()
    return total


def prepare(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Build model, optimizer and views; return what is to be timed."""
    cfg = configs.load_config(args.config)
    if args.amp:
        configs.set_amp(cfg)
    device = torch.device(args.device or get_device())
    scope = cfg.get('default_scope') or 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        if cfg.model.get('teacher') and cfg.model.teacher.get('frozen', True):
            # its time does not depend on its weights
            cfg.model.teacher.update(checkpoint='random', extra_keys=None)
        model = MODELS.build(cfg.model).to(device)
        wrapper: OptimWrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    for head in model.heads.values():  # as in the middle of a training
        for name in ('queue_start', 'freeze_prototypes'):
            if hasattr(head, name):
                setattr(head, name, Duration(0, name))
    batch = args.batch_size or cfg.train_dataloader.batch_size
    kinds = read_views(args.views, model.data_preprocessor)
    views = [
        torch.randn(batch, 3, size, size, device=device)
        for number, size in kinds
        for _ in range(number)
    ]
    if model.channels_last:
        views = [
            v.contiguous(memory_format=torch.channels_last) for v in views
        ]
    images = None
    if hasattr(model.data_preprocessor, 'recipes') and not args.views:
        side = max(size for _, size in kinds)
        images = torch.randint(
            0, 256, (batch, 3, side, side), dtype=torch.uint8, device=device
        )

    def limit() -> None:
        with wrapper.optim_context(model):
            loss = run_networks(model, views)
        wrapper.update_params(loss)

    def step() -> None:
        with wrapper.optim_context(model):
            losses = model(views, mode='loss')
        loss, _ = model.parse_losses(losses)
        wrapper.update_params(loss)

    def full() -> None:
        model.train_step(dict(inputs=images), wrapper)

    timed = dict(limit=limit, step=step)
    if images is not None:
        timed['full'] = full
    return timed


def measure(
    timed: dict[str, Callable[[], None]], rounds: int, steps: int
) -> dict[str, dict]:
    """Return milliseconds a step of each, in rounds taken in turn."""
    cuda = torch.cuda.is_available()
    wait = torch.cuda.synchronize if cuda else lambda: None
    found: dict[str, list[float]] = {name: [] for name in timed}
    memory = dict.fromkeys(timed, 0)
    for index in range(rounds + 1):
        for name, function in timed.items():
            if cuda:
                torch.cuda.reset_peak_memory_stats()
            wait()
            start = time.perf_counter()
            for _ in range(steps):
                function()
            wait()
            if index:  # the first round warms up
                seconds = time.perf_counter() - start
                found[name].append(1000 * seconds / steps)
                if cuda:
                    peak = torch.cuda.max_memory_allocated()
                    memory[name] = max(memory[name], peak)
    base = found['limit']
    return {
        name: dict(
            median_ms=median(values),
            least_ms=min(values),
            most_ms=max(values),
            ratio_to_limit=median(
                value / b for value, b in zip(values, base, strict=True)
            ),
            peak_mib=memory[name] / 2**20 if cuda else None,
        )
        for name, values in found.items()
    }


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    with readable_errors():
        for name in ('rounds', 'steps'):
            if getattr(args, name) < 1:
                raise ValueError(
                    f'--{name} {getattr(args, name)}: must be at least 1'
                )
        results = measure(prepare(args), args.rounds, args.steps)
        machine = platform.processor() or platform.machine()
        if torch.cuda.is_available():
            machine = torch.cuda.get_device_name()
        record = dict(
            config=Path(args.config).stem,
            machine=machine,
            threads=torch.get_num_threads(),
            torch=torch.__version__,
            arguments=vars(args),
            results=results,
        )
        print(f'{record["config"]}, {machine}, {record["threads"]} threads')
        print(f'{"":6s} {"median ms":>10s} {"least":>8s} {"most":>8s} ratio')
        for name, row in results.items():
            print(
                f'{name:6s} {row["median_ms"]:10.1f} {row["least_ms"]:8.1f} '
                f'{row["most_ms"]:8.1f} {row["ratio_to_limit"]:5.3f}'
            )
        if args.out:
            Path(args.out).write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(main())
