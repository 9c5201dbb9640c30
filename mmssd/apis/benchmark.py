"""What the speed benchmarks measure, and how.

Nothing here knows a target: functions time things in turn and return
numbers, which ``tools/benchmarks/throughput.py`` prints and writes.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

import mmengine
import mmpretrain
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from mmpretrain.registry import DATASETS, HOOKS, LOOPS
from mmpretrain.structures import DataSample
from PIL import Image
from torch import Tensor, nn

from mmssd.datasets.array_dataset import ArrayDataset
from mmssd.evaluation.features import unwrap
from mmssd.models.distillers.distill_classifier import (
    DistillClassifier,
    count_classes,
)
from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.encodings import merge_needs, run_backbone
from mmssd.models.heads import online_clustering_head
from mmssd.models.utils.feature_queue import FeatureQueue
from mmssd.models.utils.plan import Duration
from mmssd.models.utils.step import NETWORKS, Encodings, Needs, Step
from mmssd.version import __version__

MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]
FOREVER = 10**9  # iterations
STARTED = 'MMSSD_STARTED'  # when the process was started, seconds

Timed = dict[str, Callable[[], None]]


# --- time and memory --------------------------------------------------------


def wait() -> None:
    """Let the device catch up."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def choose_clock(
    cpu_time: bool,
    threads: int | None,
    workers: int | None = 0,
    processes: int = 1,
    device: str | None = None,
) -> Callable[[], float]:
    """Return what counts seconds: the wall's clock, or the processor's.

    Args:
        cpu_time: whether the processor's.
        threads: of torch, as asked for.
        workers: that read images.
        processes: of the measurement.
        device: that is measured, by default the best.

    Raises:
        ValueError: where the processor's time would say nothing.
    """
    if not cpu_time:
        return time.perf_counter
    gpu = torch.device(device or get_device()).type != 'cpu'
    if threads != 1 or workers or processes > 1 or gpu:
        raise ValueError(
            '--cpu-time adds up the time of all threads of this process and '
            'knows nothing of workers, other processes and GPUs: give '
            '--threads 1, no workers and one process, on the CPU'
        )
    return time.process_time


def reset_peak() -> int:
    """Forget the most memory that was in use so far, where possible.

    Returns:
        Bytes of the GPU that are allocated now, for :func:`peak_mib`; 0
        without one.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass
    return 0


def peak_mib(before: int = 0) -> float | None:
    """Return the most memory in use since :func:`reset_peak`, in MiB.

    Of the GPU what torch allocated beyond what was there before: all sides
    of a comparison keep their models and optimizers there. Of the CPU what
    was resident of this process, which has those of all sides in it; ``None``
    where the system does not tell.

    Args:
        before: what :func:`reset_peak` returned.
    """
    if torch.cuda.is_available():
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith('VmHWM')]
    return int(found[0]) / 2**10 if found else None


def summarise(
    seconds: dict[str, list[float]],
    steps: int | dict[str, int],
    images: int,
    base: str = 'limit',
    peaks: dict[str, list[float]] | None = None,
) -> dict[str, dict]:
    """Turn seconds a round into the numbers of the table.

    Args:
        seconds: of each round, by what was measured; all took the same
            rounds.
        steps: per round, of all or by name.
        images: per step.
        base: what the others are compared with, round by round.
        peaks: MiB of each round.

    Returns:
        By name ``steps``, ``median_ms``, ``least_ms``, ``most_ms`` of a
        step, ``images_per_s`` of the median, ``peak_mib``, and two ratios to
        the base: ``ratio_of_medians``, and ``median_of_ratios``, which are
        taken round by round.
    """
    if isinstance(steps, int):
        steps = dict.fromkeys(seconds, steps)
    milliseconds = {
        name: [1000 * value / steps[name] for value in values]
        for name, values in seconds.items()
    }
    rows = {}
    for name, times in milliseconds.items():
        of_medians = of_ratios = None
        if base in seconds:
            others = milliseconds[base]
            of_medians = median(times) / median(others)
            of_ratios = median(
                time / other for time, other in zip(times, others, strict=True)
            )
        found = [p for p in (peaks or {}).get(name, ()) if p is not None]
        rows[name] = dict(
            steps=steps[name],
            median_ms=median(times),
            least_ms=min(times),
            most_ms=max(times),
            images_per_s=1000 * images / median(times),
            ratio_of_medians=of_medians,
            median_of_ratios=of_ratios,
            peak_mib=max(found) if found else None,
        )
    return rows


def measure(
    timed: Timed,
    rounds: int,
    steps: int,
    images: int,
    base: str = 'limit',
    before: dict[str, Callable[[], None]] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    counts: dict[str, int] | None = None,
    after: dict[str, Callable[[float], None]] | None = None,
) -> dict[str, dict]:
    """Time functions in rounds, in turn, after one round of warming up.

    Args:
        timed: each does one step.
        rounds: that count.
        steps: of each in a round.
        images: per step.
        base: see :func:`summarise`.
        before: what has to happen before a round of some of them, untimed.
        clock: in seconds; ``time.process_time`` counts what the processor
            spent on this process, also where others keep it busy.
        counts: steps in a round of those that need another number.
        after: what has to happen after a round of some of them, untimed; it
            gets the seconds of a step.

    Returns:
        See :func:`summarise`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    peaks: dict[str, list[float]] = {name: [] for name in timed}
    number = {**dict.fromkeys(timed, steps), **(counts or {})}
    for index in range(rounds + 1):
        for name, function in timed.items():
            if before and name in before:
                before[name]()
            resident = reset_peak()
            wait()
            start = clock()
            for _ in range(number[name]):
                function()
            wait()
            spent = clock() - start
            if index:
                seconds[name].append(spent)
                peaks[name].append(peak_mib(resident))
            if after and name in after:
                after[name](spent / number[name])
    return summarise(seconds, number, images, base, peaks)


class Parts:
    """Seconds of the parts of a step.

    Parts are timed apart, waiting for the device before and after each, so
    their sum is more than an undisturbed step where a GPU is used. What a
    part calls that is a part itself counts there alone.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self._patched: list[tuple[object, str, dict]] = []
        self._within = 0.0  # seconds of the parts inside the present one

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add what happens inside to a part."""
        wait()
        before, self._within = self._within, 0.0
        start = self.clock()
        try:
            yield
        finally:
            wait()
            spent = self.clock() - start
            own = self.seconds.get(name, 0.0) + spent - self._within
            self.seconds[name] = own
            self._within = before + spent

    def watch(
        self, owner: object, method: str, name: str | Callable[..., str]
    ) -> None:
        """Time every call of a method of one object, or function of a module.

        Args:
            owner: any.
            method: its name.
            name: of the part, or what makes it of the arguments.
        """
        function = getattr(owner, method)

        def timed(*args, **kwargs):
            part = name if isinstance(name, str) else name(*args, **kwargs)
            with self.timing(part):
                return function(*args, **kwargs)

        own = {k: v for k, v in owner.__dict__.items() if k == method}
        owner.__dict__[method] = timed
        self._patched.append((owner, method, own))

    def release(self) -> None:
        """Undo :meth:`watch`."""
        for owner, method, own in reversed(self._patched):
            del owner.__dict__[method]
            owner.__dict__.update(own)
        self._patched.clear()


def watch_model(parts: Parts, model: nn.Module, wrapper: object) -> None:
    """Time the parts of a step of a distiller.

    Args:
        parts: where the seconds go.
        model: not wrapped.
        wrapper: the optimizer wrapper.
    """
    parts.watch(model.data_preprocessor, 'forward', 'views')
    if isinstance(model, DistillClassifier):
        parts.watch(model, '_classify', 'student forward and labels')
        parts.watch(model, '_teach', 'teacher forward')
    else:
        parts.watch(model, 'encode', lambda name, *_, **__: f'{name} forward')
    for name, head in objectives(model).items():
        parts.watch(head, 'loss', f'head {name}')
        for module in head.modules():
            if isinstance(module, FeatureQueue):
                parts.watch(module, 'enqueue', 'queue')
    parts.watch(online_clustering_head, 'sinkhorn', 'sinkhorn')
    if getattr(model, 'momentum', None) is not None:
        parts.watch(model.momentum, 'update', 'momentum update')
    parts.watch(wrapper, 'backward', 'backward')
    parts.watch(wrapper, 'step', 'optimizer')
    parts.watch(wrapper, 'zero_grad', 'optimizer')


def measure_parts(
    loop: 'SteppedTrainLoop',
    steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return milliseconds a step of each part of a real training.

    Args:
        loop: of a runner whose model is a distiller.
        steps: to average over, at least.
        clock: see :func:`measure`.
    """
    runner, parts = loop.runner, Parts(clock)
    loop.settle(loop.advance)
    steps = loop.whole(steps)
    watch_model(parts, runner.model, runner.optim_wrapper)
    parts.watch(runner, 'call_hook', 'hooks')
    wait()
    start = clock()
    try:
        for _ in range(steps):
            with parts.timing('waiting for data'):
                batch = next(loop.dataloader_iterator)
            loop.run_iter(batch)
        wait()
        total = 1000 * (clock() - start) / steps
    finally:
        parts.release()
    found = {k: 1000 * v / steps for k, v in parts.seconds.items()}
    return dict(
        sorted(found.items(), key=lambda item: -item[1]),
        rest=total - sum(found.values()),
        total=total,
    )


# --- networks alone ---------------------------------------------------------


def objectives(model: nn.Module) -> nn.ModuleDict:
    """Return the heads of a distiller, by name.

    Raises:
        ValueError: if the model is none.
    """
    if isinstance(model, DistillClassifier):
        return model.distill_heads
    if isinstance(model, Distiller):
        return model.heads
    raise ValueError(
        f'the model of the config is {type(model).__name__}: measured are '
        'Distiller and DistillClassifier, where objectives stand beside '
        'networks'
    )


def set_midway(model: nn.Module) -> None:
    """Let a distiller do what it does in the midst of a training.

    What begins or ends after some iterations (queues, frozen prototypes,
    warm-ups) has done so, and a strength that follows the progress of the
    training is that of its end.

    Args:
        model: changed in place.
    """
    for head in objectives(model).values():
        for name, value in vars(head).items():
            if isinstance(value, Duration):
                setattr(head, name, Duration(0, name))
        if getattr(head, 'alpha', None) == 'dann':
            head.alpha = 1.0


def loss_inputs(model: nn.Module, views: list[Tensor]) -> dict:
    """Return what a distiller's ``forward`` takes for a training step.

    Args:
        model: a distiller.
        views: of the images; a classifier takes the first alone.

    Returns:
        ``inputs``, and ``data_samples`` with what the objectives look at:
        the number of each image, and a label of a classifier.
    """
    classifier = isinstance(model, DistillClassifier)
    classes = count_classes(model.head) if classifier else None
    rows = [getattr(h, 'num_images', None) for h in objectives(model).values()]
    known = min((n for n in rows if n), default=len(views[0]))
    samples = []
    for index in range(len(views[0])):
        sample = DataSample(metainfo=dict(sample_idx=index % known))
        if classifier:
            sample.set_gt_label(index % (classes or 1))
        samples.append(sample.to(views[0].device))
    return dict(inputs=views[0] if classifier else views, data_samples=samples)


def _head_layers(model: nn.Module, step: Step) -> list[Tensor]:
    with torch.autocast(next(model.parameters()).device.type, enabled=False):
        return [
            output
            for head in objectives(model).values()
            if head.active
            for output in head.layers(step)
        ]


def _classifier_outputs(
    model: DistillClassifier, images: Tensor, head_layers: bool
) -> list[Tensor]:
    heads = [head for head in model.distill_heads.values() if head.active]
    needs = merge_needs([head.needs for head in heads] or [Needs()])
    trained = torch.is_grad_enabled() and not model.freeze_backbone
    with torch.set_grad_enabled(trained):
        output, taps = run_backbone(model.backbone, images, needs.student)
    scores = model.head(model.neck(output) if model.with_neck else output)
    teacher = model._teach(images, needs.teacher) if needs.teacher else None
    maps = output if isinstance(output, tuple) else (output,)
    outputs = [scores, *taps]
    if 'feature_maps' in needs.student:
        outputs += maps
    if head_layers:
        student = Encodings(feature_maps=[maps], pre_relu_maps=[taps])
        outputs += _head_layers(model, Step(student, teacher))
    return outputs


def run_networks(
    model: nn.Module, views: list[Tensor], head_layers: bool = False
) -> list[Tensor]:
    """Run each network as the heads need it.

    Heads get nothing, so what is left is the networks' own cost.

    Args:
        model: a distiller.
        views: as it gets them.
        head_layers: also run the layers of heads that their papers count
            among the networks, see ``DistillHead.layers``; those of a
            ``DistillClassifier`` get maps alone.

    Returns:
        What heads would derive by.
    """
    if isinstance(model, DistillClassifier):
        outputs = _classifier_outputs(model, views[0], head_layers)
        return [output for output in outputs if output.requires_grad]
    num_global = model._count_global(views)
    encodings = {n: model.encode(n, views, num_global) for n in NETWORKS}
    outputs = []
    for found in filter(None, encodings.values()):
        outputs += [
            *found.embeddings,
            *found.dropout_embeddings,
            *(() if found.embeddings else found.features),
            *(m for maps in found.feature_maps for m in maps or ()),
            *(m for maps in found.pre_relu_maps for m in maps or ()),
        ]
    if head_layers:
        step = Step(**encodings, num_global=num_global)
        outputs += _head_layers(model, step)
    return [o for o in outputs if o is not None and o.requires_grad]


class _Given(torch.autograd.Function):
    """Zero, whose derivatives are given."""

    @staticmethod
    def forward(ctx, gradients, *outputs):
        ctx.gradients = gradients
        return outputs[0].new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx, gradient):
        # a factor that scales the loss would be a pass over the maps
        return None, *ctx.gradients


class NetworksAlone(nn.Module):
    """:func:`run_networks` with the gradients that heads would send back.

    They are drawn once, so that no time is spent on what heads do: where an
    objective looks at whole maps, any function of them costs about as much.

    Args:
        model: a distiller.
        head_layers: see :func:`run_networks`.
    """

    def __init__(self, model: nn.Module, head_layers: bool = False) -> None:
        super().__init__()
        self.model = model
        self.head_layers = head_layers
        self.gradients: list[Tensor] | None = None

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return a scalar to derive."""
        outputs = run_networks(self.model, views, self.head_layers)
        if self.gradients is None:
            self.gradients = [
                torch.randn_like(output) / output.numel() for output in outputs
            ]
        return _Given.apply(self.gradients, *outputs)


# --- images -----------------------------------------------------------------


def smooth_images(
    number: int, height: int, width: int, seed: int = 0
) -> np.ndarray:
    """Draw images that compress about as photographs do.

    Args:
        number: how many.
        height: in pixels.
        width: in pixels.
        seed: of the noise.

    Returns:
        ``(number, height, width, 3)`` uint8: coarse noise, enlarged, with
        some fine noise.
    """
    rng = np.random.default_rng(seed)
    images = np.empty((number, height, width, 3), dtype=np.uint8)
    for image in images:
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        large = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
        fine = rng.integers(-12, 13, (height, width, 3))
        image[:] = (np.asarray(large) + fine).clip(0, 255)
    return images


def write_jpegs(
    folder: str | Path, number: int, height: int = 375, width: int = 500
) -> Path:
    """Write JPEG files of ImageNet's usual size, once.

    Args:
        folder: made where it is missing; files that are there are kept.
        number: of files.
        height: in pixels.
        width: in pixels.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        path = folder / f'{index:05d}.jpg'
        if not path.exists():
            pixels = smooth_images(1, height, width, seed=index)[0]
            Image.fromarray(pixels).save(path, quality=90)
    return folder


@DATASETS.register_module()
class SyntheticImages(ArrayDataset):
    """Made-up square images in memory, for benchmarks.

    Args:
        number (int): of images.
        size (int): side in pixels.
        **kwargs: of mmpretrain's ``BaseDataset``, such as ``pipeline``.
    """

    def __init__(self, number: int = 2048, size: int = 32, **kwargs) -> None:
        super().__init__(
            smooth_images(number, size, size),
            np.zeros(number, dtype=np.int64),
            **kwargs,
        )


def read_views(
    texts: Sequence[str] | None, cfg: Config
) -> list[tuple[int, int]]:
    """Return (number, size) of each kind of view.

    Args:
        texts: such as ``2x224``; ``None`` for those of the config.
        cfg: whose preprocessor or pipeline makes views.

    Raises:
        ValueError: if a text is no such pair, or nothing says the views.
    """
    if texts is None:
        found = _views_of(cfg)
        if not found:
            raise ValueError(
                'neither preprocessor nor pipeline of the config say the '
                'views: give them by --views, for example --views 2x224 6x96'
            )
        return found
    views = []
    for text in texts:
        number, _, size = text.partition('x')
        if not (number.isdigit() and size.isdigit()):
            raise ValueError(f'--views {text}: must be NUMBERxSIZE')
        views.append((int(number), int(size)))
    return views


def _views_of(cfg: Config) -> list[tuple[int, int]]:
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get(
        'data_preprocessor', {}
    )
    if preprocessor.get('views'):
        return [(view.num, view.size) for view in preprocessor['views']]
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    for step in dataset.get('pipeline', ()):
        if step.get('type') != 'MultiView':
            continue
        numbers = step['num_views']
        if isinstance(numbers, int):
            numbers = [numbers] * len(step['transforms'])
        sizes = [
            next(t['scale'] for t in view if 'scale' in t)
            for view in step['transforms']
        ]
        return list(zip(numbers, sizes, strict=True))
    return []


def set_cifar_stem(cfg: Config) -> None:
    """Give every ResNet the stem for images of 32 pixels."""
    model = cfg.model
    for network in (model, model.get('teacher')):
        if network and network.backbone.get('type') == 'ResNet':
            network.backbone.type = 'ResNet_CIFAR'


def set_images(
    cfg: Config,
    kind: str,
    folder: str | Path,
    number: int,
    size: int,
    views: Sequence[tuple[int, int]],
) -> None:
    """Let a config train on made-up images.

    Args:
        cfg: changed in place.
        kind: ``'config'`` leaves it as it is; ``'memory'``: square images in
            memory, views made on the device; ``'jpeg'``: files of ImageNet's
            usual size, read by the pipeline of the config.
        folder: of the files.
        number: of images.
        size: side of those in memory.
        views: (number, size) of those made on the device.

    Raises:
        ValueError: if the config cannot have such images.
    """
    if kind == 'config':
        return
    loader = cfg.train_dataloader
    if kind == 'jpeg':
        pipeline = loader.dataset.get('pipeline') or ()
        if not any('LoadImage' in str(step.get('type')) for step in pipeline):
            raise ValueError(
                '--data jpeg: the pipeline of the config reads no files; '
                'take --data memory, or a config for ImageNet'
            )
        loader.dataset = ConfigDict(
            type='UnlabelledFolder',
            data_root=str(write_jpegs(folder, number)),
            pipeline=pipeline,
        )
        return
    loader.dataset = ConfigDict(
        type='SyntheticImages',
        number=number,
        size=size,
        pipeline=[dict(type='PackImage')],
    )
    loader.num_workers = 0
    loader.persistent_workers = False
    cfg.model.data_preprocessor = preprocessor_of(views)


def preprocessor_of(views: Sequence[tuple[int, int]]) -> ConfigDict:
    """Return a preprocessor that makes such views, with SwAV's photometry."""
    return ConfigDict(
        type='MultiCropPreprocessor',
        mean=MEAN,
        std=STD,
        views=[
            dict(
                num=number,
                size=size,
                scale=(0.14, 1.0) if index == 0 else (0.05, 0.14),
            )
            for index, (number, size) in enumerate(views)
        ],
    )


# --- a real training, step by step ------------------------------------------


@LOOPS.register_module()
class SteppedTrainLoop(IterBasedTrainLoop):
    """mmengine's loop, which iterates when it is told to."""

    def run(self) -> nn.Module:
        """Do what comes before the first iteration."""
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        return self.runner.model

    def advance(self) -> None:
        """Train for one iteration, as the loop it is made from."""
        self.runner.model.train()
        self.run_iter(next(self.dataloader_iterator))

    def fetch(self) -> None:
        """Read a batch, and do nothing with it."""
        next(self.dataloader_iterator)

    @property
    def ahead(self) -> int:
        """Batches that workers prepare before they are asked for."""
        loader = self.dataloader
        return loader.num_workers * (loader.prefetch_factor or 0)

    def settle(self, function: Callable[[], None]) -> None:
        """Come from a pause to what a long training is like.

        What workers have prepared in the meantime is thrown away. Then all
        of them begin at once, so as many steps follow before they are in
        the rhythm of the training.

        Args:
            function: does a step, such as :meth:`advance`.
        """
        for _ in range(self.ahead):
            self.fetch()
        for _ in range(self.ahead):
            function()

    def rest(self, seconds: float) -> None:
        """Wait until the workers have nothing to do but wait.

        Else they would take the processor from what is timed next.

        Args:
            seconds: of a step; workers prepare a batch in no more.
        """
        if self.ahead:
            time.sleep(self.ahead * seconds)

    def whole(self, steps: int) -> int:
        """Return at least so many steps, a multiple of the workers.

        Workers that began together deliver together: fewer steps would be
        one batch of a worker, however many there are.
        """
        workers = max(self.dataloader.num_workers, 1)
        return -(-steps // workers) * workers


def stepped_loop(
    cfg: Config, work_dir: str | Path, name: str, hooks: bool = True
) -> SteppedTrainLoop:
    """Start the training of a config, up to its first iteration.

    Checkpoints and probes are left out; all other hooks are there. Images
    never end: mmengine waits seconds where an epoch does. The model is as in
    the midst of a training, see :func:`set_midway`.

    Args:
        cfg: complete; not changed.
        work_dir: for logs.
        name: of the run; another for each in a process.
        hooks: with the hooks that ``tools/train.py`` adds; False for what
            other code is like.
    """
    from mmssd.apis import config as configs
    from mmssd.apis.train import build_runner

    cfg = Config(cfg.to_dict())
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = name
    cfg.log_level = 'ERROR'
    cfg.train_cfg = ConfigDict(type='SteppedTrainLoop', max_iters=FOREVER)
    cfg.param_scheduler = None
    cfg.train_dataloader.sampler = ConfigDict(
        type='InfiniteSampler', shuffle=True
    )
    cfg.setdefault('default_hooks', ConfigDict()).checkpoint = None
    cfg.custom_hooks = [
        hook
        for hook in cfg.get('custom_hooks') or []
        if 'Probe' not in str(hook.get('type'))
        and 'InformationPlane' not in str(hook.get('type'))
    ]
    if hooks:
        configs.set_hooks(cfg)
    configs.set_dataloaders(cfg)
    configs.disable_validation(cfg)
    runner = build_runner(cfg)
    model = unwrap(runner.model)
    if isinstance(model, (Distiller, DistillClassifier)):
        set_midway(model)
    runner.train()
    return runner.train_loop


@HOOKS.register_module()
class FirstIterationHook(Hook):
    """Say how long it took to the end of the first iteration, and stop.

    The environment says when the process was started.
    """

    def after_train_iter(self, runner, *_, **__) -> None:
        """Print the seconds and leave."""
        wait()
        spent = time.time() - float(os.environ[STARTED])
        # not the log, whose level a config sets: another process reads it
        print(f'first iteration after {spent:.3f} s', flush=True)
        os._exit(0)


# --- peers ------------------------------------------------------------------


def _photometry() -> list[dict]:
    """SwAV's, as in mmpretrain's own config of it."""
    return [
        dict(
            type='RandomApply',
            prob=0.8,
            transforms=[
                dict(
                    type='ColorJitter',
                    brightness=0.8,
                    contrast=0.8,
                    saturation=0.8,
                    hue=0.2,
                )
            ],
        ),
        dict(
            type='RandomGrayscale',
            prob=0.2,
            keep_channels=True,
            channel_weights=(0.114, 0.587, 0.2989),
        ),
        dict(
            type='GaussianBlur',
            magnitude_range=(0.1, 2.0),
            magnitude_std='inf',
            prob=0.5,
        ),
        dict(type='RandomFlip', prob=0.5),
    ]


def _peer_pipeline(
    views: Sequence[tuple[int, int]], load: Sequence[dict]
) -> list[dict]:
    recipe = preprocessor_of(views)['views']
    return [
        *load,
        dict(
            type='MultiView',
            num_views=[number for number, _ in views],
            transforms=[
                [
                    dict(
                        type='RandomResizedCrop',
                        scale=view['size'],
                        crop_ratio_range=view['scale'],
                        backend='pillow',
                    ),
                    *_photometry(),
                ]
                for view in recipe
            ],
        ),
        dict(type='PackInputs'),
    ]


PEERS = ('swav', 'moco')


def peer_configs(
    peer: str,
    backbone: dict,
    width: int,
    views: Sequence[tuple[int, int]],
    batch: int,
    dataset: dict,
    load: Sequence[dict] = (),
    fit: Sequence[dict] = (),
    prototypes: int = 3000,
    queue: int = 4096,
    hidden: int = 2048,
    embedding: int = 128,
) -> dict[str, Config]:
    """Return the same method by mmpretrain and by this package.

    Networks, optimizer, crops, photometric distributions, batch and images
    are equal; mmpretrain makes views one by one in its pipeline, as its own
    configs do.

    Args:
        peer: ``'swav'`` or ``'moco'``.
        backbone: config of both.
        width: of its features.
        views: (number, size); MoCo takes the first two crops.
        batch: images per step.
        dataset: config without pipeline.
        load: transforms that read a file, if need be.
        fit: ours alone, where images are not of one size: views are made of
            a whole batch.
        prototypes: K of SwAV.
        queue: K of MoCo.
        hidden: width of the projector inside.
        embedding: width of its output.

    Returns:
        ``mmpretrain`` (float32, as it comes), ``ours`` (bfloat16,
        channels-last) and ``ours float32``.

    Raises:
        ValueError: for an unknown peer, or a queue that mmpretrain cannot
            have.
    """
    if peer not in PEERS:
        raise ValueError(f'--peers {peer}: must be of {PEERS}')
    if peer == 'moco':
        views = [(2, views[0][1])]
        if queue % batch:
            raise ValueError(
                f'--peers moco: a queue of {queue} is no multiple of the '
                f'batch of {batch}, as mmpretrain demands: set --batch-size '
                'or --queue'
            )
    plain = dict(type='SelfSupDataPreprocessor', mean=MEAN, std=STD)
    common = dict(backbone=backbone, data_preprocessor=plain)
    if peer == 'swav':
        theirs = dict(
            type='SwAV',
            neck=dict(
                type='SwAVNeck',
                in_channels=width,
                hid_channels=hidden,
                out_channels=embedding,
                norm_cfg=dict(type='BN1d'),
            ),
            head=dict(
                type='SwAVHead',
                loss=dict(
                    type='SwAVLoss',
                    feat_dim=embedding,
                    num_prototypes=prototypes,
                    num_crops=[number for number, _ in views],
                ),
            ),
            **common,
        )
        ours = dict(
            neck=dict(
                type='DropoutProjectionNeck',
                in_channels=width,
                hid_channels=hidden,
                out_channels=embedding,
            ),
            heads=dict(
                clustering=dict(
                    type='OnlineClusteringHead',
                    embed_dim=embedding,
                    num_prototypes=prototypes,
                    codes_from='student',
                    train=('student',),
                    queue_length=0,
                )
            ),
        )
    else:
        neck = dict(
            type='MoCoV2Neck',
            in_channels=width,
            hid_channels=hidden,
            out_channels=embedding,
        )
        theirs = dict(
            type='MoCo',
            neck=neck,
            queue_len=queue,
            feat_dim=embedding,
            head=dict(
                type='ContrastiveHead',
                loss=dict(type='CrossEntropyLoss'),
                temperature=0.2,
            ),
            **common,
        )
        ours = dict(
            neck=neck,
            momentum=dict(decay=0.999),
            heads=dict(
                contrast=dict(
                    type='MomentumContrastHead',
                    embed_dim=embedding,
                    queue_length=queue,
                )
            ),
        )
    ours.update(
        type='Distiller',
        backbone=backbone,
        channels_last=True,
        num_global=views[0][0],
        data_preprocessor=preprocessor_of(views),
    )
    loader = dict(
        batch_size=batch,
        num_workers=0,
        drop_last=True,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4),
    )
    amp = dict(wrapper, type='AutocastOptimWrapper')
    slow = dict(dataset, pipeline=_peer_pipeline(views, load))
    fast = dict(dataset, pipeline=[*load, *fit, dict(type='PackImage')])
    return {
        name: Config(
            dict(
                default_scope='mmpretrain',
                model=model,
                train_dataloader=dict(loader, dataset=data),
                optim_wrapper=optim,
            )
        )
        for name, model, data, optim in (
            ('mmpretrain', theirs, slow, wrapper),
            ('ours float32', ours, fast, wrapper),
            ('ours', ours, fast, amp),
        )
    }


# --- communication ----------------------------------------------------------

COLLECTIVES = ('all_gather', 'all_reduce', 'broadcast')


def sent_bytes(kind: str, size: int, processes: int) -> float:
    """Return what a process sends in a collective, by the ring algorithm.

    Args:
        kind: one of ``COLLECTIVES``.
        size: bytes of the tensor that a process brings.
        processes: W.

    Returns:
        ``(W - 1) size`` of a gather, ``2 (W - 1) / W size`` of a sum,
        ``size`` of a broadcast.
    """
    if kind == 'all_gather':
        return (processes - 1) * size
    if kind == 'all_reduce':
        return 2 * (processes - 1) / processes * size
    return size


def count_communication(
    model: nn.Module, views: list[Tensor], processes: int
) -> dict[str, dict]:
    """Count the bytes that a step sends, in a group that only pretends.

    The forward pass runs once, as the first of W processes, with collectives
    that do nothing; gradients are those of the trained parameters, in
    float32. Counted are all_gather, all_reduce and broadcast of the forward
    pass, which is what the objectives call; not those of a backward pass
    (SyncBN has a sum there), nor reduce_scatter and all_to_all, which nothing
    here calls.

    Args:
        model: a distiller on the CPU.
        views: as it gets them.
        processes: W.

    Returns:
        By collective and shape: ``calls``, ``bytes`` that a process brings,
        and ``sent``, see :func:`sent_bytes`.
    """
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    found: dict[str, dict] = {}

    def note(kind: str, label: str, size: int) -> None:
        row = found.setdefault(
            f'{kind} {label}', dict(calls=0, bytes=0, sent=0.0)
        )
        row['calls'] += 1
        row['bytes'] += size
        row['sent'] += sent_bytes(kind, size, processes)

    def watched(kind: str, function: Callable) -> Callable:
        def call(*args, **kwargs):
            # the gathered list comes first
            tensor = args[1] if kind == 'all_gather' else args[0]
            shape = 'x'.join(map(str, tensor.shape)) or '1'
            note(kind, shape, tensor.numel() * tensor.element_size())
            return function(*args, **kwargs)

        return call

    size = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    note('all_reduce', 'gradients', size)
    kept = {kind: getattr(dist, kind) for kind in COLLECTIVES}
    dist.init_process_group(
        'fake', rank=0, world_size=processes, store=FakeStore()
    )
    try:
        for kind, function in kept.items():
            setattr(dist, kind, watched(kind, function))
        model(**loss_inputs(model, views), mode='loss')
    finally:
        for kind, function in kept.items():
            setattr(dist, kind, function)
        dist.destroy_process_group()
    return found


# --- where ------------------------------------------------------------------


def _cpu_model(text: str) -> str:
    """Name of the first processor; virtual machines shorten it to a brand."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(':')
        found.setdefault(key.strip(), value.strip())
    numbers = [
        f'{name} {found[key]}'
        for name, key in (
            ('family', 'cpu family'),
            ('model', 'model'),
            ('stepping', 'stepping'),
        )
        if key in found
    ]
    name = found['model name']
    return f'{name} ({", ".join(numbers)})' if numbers else name


def machine() -> dict:
    """Return what was measured on: processor, GPU, threads, versions."""
    cpu = platform.processor() or platform.machine()
    with suppress(OSError, KeyError):
        cpu = _cpu_model(Path('/proc/cpuinfo').read_text())
    gpu = torch.cuda.is_available()
    return dict(
        cpu=cpu,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if gpu else None,
        torch=torch.__version__,
        mmengine=mmengine.__version__,
        mmpretrain=mmpretrain.__version__,
        mmssd=__version__,
        python=platform.python_version(),
        date=time.strftime('%Y-%m-%d'),
    )
