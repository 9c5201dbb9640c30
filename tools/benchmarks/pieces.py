"""Time of single pieces of a training: as others have it, and as it is here.

Each piece is done in two or more ways that give the same result, up to the
rounding of their precision. All ways of
a piece are measured in turn in one run, in rounds; the table gives medians
and the spread, and the ratio to the first way.

Examples:
    python tools/benchmarks/pieces.py --threads 1
    python tools/benchmarks/pieces.py codes history --rounds 9 --out x.json
"""

import argparse
import copy
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.logging import HistoryBuffer
from mmpretrain.engine.optimizers.lars import LARS
from mmpretrain.models import ResNet
from torch import Tensor, nn

from mmssd.apis import benchmark
from mmssd.apis.cli import readable_errors
from mmssd.engine.hooks.deferred_scalars_hook import ScalarHistory
from mmssd.engine.optimizers.foreach_lars import ForeachLARS
from mmssd.models.losses.partial_l2 import partial_l2
from mmssd.models.losses.similarity_distillation import (
    similarity_distillation,
)
from mmssd.models.utils.sinkhorn import sinkhorn

Ways = dict[str, Callable[[], object]]


def _unit_rows(*shape: int, device: str) -> Tensor:
    return F.normalize(torch.randn(*shape, device=device), dim=-1)


def codes(device: str, rows: int = 3872, prototypes: int = 3000) -> Ways:
    """Sinkhorn of a batch of 32 behind a queue of 3840, codes of the batch.

    By logarithms of the whole matrix; by a factor for each row and column;
    and of the rows alone whose codes are used, in the memory of the scores,
    which are copied for that each time.
    """
    scores = _unit_rows(rows, 128, device=device)
    scores = scores @ _unit_rows(prototypes, 128, device=device).t()
    batch = min(32, rows)
    return {
        'logarithms': lambda: sinkhorn(scores)[-batch:],
        'factors': lambda: sinkhorn(scores, bound=1)[-batch:],
        'factors, batch': lambda: sinkhorn(
            scores.clone(), bound=1, last=batch, overwrite=True
        ),
    }


def history(device: str, entries: int = 500_000, numbers: int = 10) -> Ways:
    """Log of ten numbers after half a million iterations: one more of each.

    mmengine's history, which is copied for every entry, and ours.
    """
    kinds = {'mmengine': HistoryBuffer, 'ours': ScalarHistory}
    ways = {}
    for name, kind in kinds.items():
        logs = [kind([0.5] * entries, [1] * entries) for _ in range(numbers)]

        def update(logs: list = logs) -> list:
            for log in logs:
                log.update(0.25)
            return [log.current() for log in logs]

        ways[name] = update
    return ways


def _with_gradients(network: nn.Module, device: str) -> list[nn.Parameter]:
    params = list(network.to(device).parameters())
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def _updates(kinds: dict[str, partial], depth: int, device: str) -> Ways:
    torch.manual_seed(0)
    network = ResNet(depth)
    ways = {}
    for name, kind in kinds.items():
        torch.manual_seed(1)
        params = _with_gradients(copy.deepcopy(network), device)
        optimizer = kind(params)

        def update(optimizer=optimizer, params=params) -> list[Tensor]:
            optimizer.step()
            return params  # of the network, changed

        ways[name] = update
    return ways


def lars(device: str, depth: int = 50) -> Ways:
    """Update of a ResNet by LARS: mmpretrain's, and all tensors at once."""
    options = dict(lr=0.1, momentum=0.9, weight_decay=1e-6)
    return _updates(
        {
            'mmpretrain': partial(LARS, **options),
            'foreach': partial(ForeachLARS, **options),
        },
        depth,
        device,
    )


def _implementations(kind: partial, depth: int, device: str) -> Ways:
    return _updates(
        {
            'as it comes': kind,
            'foreach': partial(kind, foreach=True),
            'fused': partial(kind, fused=True),
        },
        depth,
        device,
    )


def sgd(device: str, depth: int = 50) -> Ways:
    """Update of a ResNet by torch's SGD: as it comes, foreach, fused."""
    kind = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-4)
    return _implementations(kind, depth, device)


def adamw(device: str, depth: int = 50) -> Ways:
    """Update of a ResNet by torch's AdamW: as it comes, foreach, fused."""
    kind = partial(torch.optim.AdamW, lr=1e-3)
    return _implementations(kind, depth, device)


def groups(device: str, depth: int = 50) -> Ways:
    """Update by AdamW with a group for each tensor, and with one for all."""

    def alone(params: list[nn.Parameter]) -> torch.optim.AdamW:
        return torch.optim.AdamW([dict(params=[p]) for p in params], lr=1e-3)

    return _updates(
        {
            'group each': alone,
            'one group': partial(torch.optim.AdamW, lr=1e-3),
        },
        depth,
        device,
    )


def overhaul(
    device: str, images: int = 8, width: int = 256, side: int = 56
) -> Ways:
    """OFD's distance of one stage and its gradient: as printed, and ours."""
    shape = (images, width, side, side)
    student, teacher = (torch.randn(shape, device=device) for _ in range(2))
    margin = -torch.rand(width, device=device)

    def printed(s: Tensor, t: Tensor, m: Tensor) -> Tensor:
        t = torch.maximum(t, m[:, None, None])
        ignored = (s <= t) & (t <= 0)
        return ((s - t) ** 2 * ~ignored).sum() / len(s)

    def derive(function: Callable[..., Tensor]) -> Tensor:
        s = student.detach().requires_grad_()
        function(s, teacher, margin).backward()
        return s.grad

    return {
        'as printed': lambda: derive(printed),
        'in fewer passes': lambda: derive(partial_l2),
    }


def similarity(device: str, rows: int = 64, keys: int = 65_536) -> Ways:
    """SEED's objective and its gradient: whole tensors, and in blocks."""
    width = 128
    student, teacher = (
        _unit_rows(rows, width, device=device) for _ in range(2)
    )
    queue = _unit_rows(keys, width, device=device)

    def plain(s: Tensor, t: Tensor) -> Tensor:
        s, t = F.normalize(s, dim=1), F.normalize(t, dim=1)
        own = torch.stack([(t * t).sum(1), (s * t).sum(1)])[:, :, None]
        p = torch.cat([own[0], t @ queue.t()], 1).div(0.01).softmax(1)
        log_q = torch.cat([own[1], s @ queue.t()], 1).div(0.2)
        return -(p * log_q.log_softmax(1)).sum(1).mean()

    def derive(function: Callable[..., Tensor]) -> Tensor:
        s = student.detach().requires_grad_()
        function(s, teacher).backward()
        return s.grad

    ours = partial(
        similarity_distillation,
        queue=queue,
        student_temperature=0.2,
        teacher_temperature=0.01,
    )
    return {
        'whole': lambda: derive(plain),
        'blocks': lambda: derive(ours),
    }


def products(
    device: str, rows: int = 8, keys: int = 32_768, width: int = 2048
) -> Ways:
    """Similarities of student and teacher to one queue: two calls, or one."""
    student, teacher = (torch.randn(rows, width) for _ in range(2))
    student, teacher = student.to(device), teacher.to(device)
    queue = torch.randn(keys, width, device=device)

    def apart() -> Tensor:
        return torch.cat([teacher @ queue.t(), student @ queue.t()])

    return {
        'two calls': apart,
        'one call': lambda: torch.cat([teacher, student]) @ queue.t(),
    }


def _network(device: str) -> nn.Module:
    torch.manual_seed(0)
    network = ResNet(18, norm_eval=False)
    network.train()
    return network.to(device)


def _derive(network: nn.Module, views: Tensor, amp: bool) -> Tensor:
    network.zero_grad()
    with torch.autocast(views.device.type, torch.bfloat16, enabled=amp):
        output = network(views)[-1]
    output.float().square().mean().backward()
    return network.conv1.weight.grad


def layout(
    device: str, images: int = 16, side: int = 224, amp: bool = False
) -> Ways:
    """Forward and backward of a ResNet-18, by memory format."""
    views = torch.randn(images, 3, side, side, device=device)
    ways = {}
    for name, memory_format in (
        ('contiguous', torch.contiguous_format),
        ('channels-last', torch.channels_last),
    ):
        network = _network(device).to(memory_format=memory_format)
        ways[name] = partial(
            _derive,
            network,
            views.contiguous(memory_format=memory_format),
            amp,
        )
    return ways


def compiled(
    device: str, images: int = 32, side: int = 64, amp: bool = False
) -> Ways:
    """Forward and backward of a ResNet-18: as it is, and torch.compile."""
    views = torch.randn(images, 3, side, side, device=device)
    views = views.contiguous(memory_format=torch.channels_last)
    ways = {}
    for name in ('eager', 'compiled'):
        network = _network(device).to(memory_format=torch.channels_last)
        if name == 'compiled':
            network.compile()
        ways[name] = partial(_derive, network, views, amp)
    return ways


PIECES: dict[str, Callable[..., Ways]] = {
    **{
        function.__name__: function
        for function in (
            codes,
            history,
            lars,
            sgd,
            adamw,
            groups,
            overhaul,
            similarity,
            products,
            layout,
            compiled,
        )
    },
    'layout-bf16': partial(layout, amp=True),
    'compiled-bf16': partial(compiled, amp=True),
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        'pieces',
        nargs='*',
        metavar='PIECE',
        help=f'of {", ".join(PIECES)} (default: all)',
    )
    add('--rounds', type=int, default=7, help='repetitions')
    add('--steps', type=int, default=3, help='times per repetition')
    add('--device', help='cpu, cuda, ...; by default the best')
    add('--threads', type=int, help='of the CPU')
    add(
        '--cpu-time',
        action='store_true',
        help='count the time of the processor, see throughput.py',
    )
    add('--out', metavar='FILE', help='write JSON there')
    args = parser.parse_args(argv)
    args.device = args.device or get_device()
    return args


def clock_of(args: argparse.Namespace) -> Callable[[], float]:
    """Return the clock that the arguments ask for."""
    return benchmark.choose_clock(
        args.cpu_time, args.threads, device=args.device
    )


def measure_piece(name: str, args: argparse.Namespace) -> dict[str, dict]:
    """Return the numbers of one piece, see ``benchmark.summarise``."""
    torch.manual_seed(0)
    ways = PIECES[name](args.device)
    return benchmark.measure(
        ways,
        args.rounds,
        args.steps,
        images=1,
        base=next(iter(ways)),
        clock=clock_of(args),
    )


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    args = parse_args(argv)
    with readable_errors():
        unknown = [name for name in args.pieces if name not in PIECES]
        if unknown:
            raise ValueError(
                f'{", ".join(unknown)}: no such piece; there are '
                f'{", ".join(PIECES)}'
            )
        for name in ('rounds', 'steps'):
            if getattr(args, name) < 1:
                raise ValueError(
                    f'--{name} {getattr(args, name)}: must be at least 1'
                )
        clock_of(args)
        if args.threads:
            torch.set_num_threads(args.threads)
        where = benchmark.machine()
        kind = 'gpu' if torch.device(args.device).type == 'cuda' else 'cpu'
        print(
            f'{where[kind]}, {where["threads"]} threads, '
            f'torch {where["torch"]}, {where["date"]}'
            f'{", time of the processor" * args.cpu_time}'
        )
        print(
            f'{"":32s} {"median ms":>10s} {"least":>9s} {"most":>9s} '
            'to the first: median by rounds'
        )
        found = {}
        for name in args.pieces or PIECES:
            found[name] = measure_piece(name, args)
            for way, row in found[name].items():
                print(
                    f'{name + ", " + way:32s} {row["median_ms"]:10.3f} '
                    f'{row["least_ms"]:9.3f} {row["most_ms"]:9.3f} '
                    f'{row["median_of_ratios"]:.3f}',
                    flush=True,
                )
        if args.out:
            record = dict(machine=where, arguments=vars(args), pieces=found)
            Path(args.out).write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__':
    main()
