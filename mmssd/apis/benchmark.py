"""What the speed benchmarks measure, and how.

Nothing here knows a target: functions time things in turn and return
numbers, which ``tools/benchmarks/throughput.py`` prints and writes.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import mmengine
import mmpretrain
import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from mmpretrain.registry import DATASETS, HOOKS, LOOPS
from PIL import Image
from torch import Tensor, nn

from mmssd.datasets.array_dataset import ArrayDataset
from mmssd.models.utils.step import NETWORKS
from mmssd.version import __version__

MEAN = [123.675, 116.28, 103.53]
STD = [58.395, 57.12, 57.375]
FOREVER = 10**9  # iterations
STARTED = 'MMSSD_STARTED'  # when the process was started, seconds

Timed = dict[str, Callable[[], None]]


# --- time and memory --------------------------------------------------------


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    """Forget the most memory that was in use so far, where possible."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path('/proc/self/clear_refs').write_text('5')
    except OSError:
        pass


def peak_mib() -> float | None:
    """Return the most memory in use since :func:`reset_peak`, in MiB.

    Of the GPU what torch allocated; else of this process what was resident,
    ``None`` where the system does not tell.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith('VmHWM')]
    return int(found[0]) / 2**10 if found else None


def summarise(
    seconds: dict[str, list[float]],
    steps: int,
    images: int,
    base: str = 'limit',
    peaks: dict[str, list[float]] | None = None,
) -> dict[str, dict]:
    """Turn seconds a round into the numbers of the table.

    Args:
        seconds: of each round, by what was measured; all took the same
            rounds.
        steps: per round.
        images: per step.
        base: what the others are compared with, round by round.
        peaks: MiB of each round.

    Returns:
        By name ``median_ms``, ``least_ms``, ``most_ms`` of a step,
        ``images_per_s`` of the median, ``ratio`` (median over the rounds of
        its time over that of the base) and ``peak_mib``.
    """
    rows = {}
    for name, values in seconds.items():
        times = [1000 * value / steps for value in values]
        ratio = None
        if base in seconds:
            pairs = zip(values, seconds[base], strict=True)
            ratio = median(value / other for value, other in pairs)
        found = [p for p in (peaks or {}).get(name, ()) if p is not None]
        rows[name] = dict(
            median_ms=median(times),
            least_ms=min(times),
            most_ms=max(times),
            images_per_s=1000 * images / median(times),
            ratio=ratio,
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

    Returns:
        See :func:`summarise`.
    """
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    peaks: dict[str, list[float]] = {name: [] for name in timed}
    for index in range(rounds + 1):
        for name, function in timed.items():
            if before and name in before:
                before[name]()
            reset_peak()
            _wait()
            start = clock()
            for _ in range(steps):
                function()
            _wait()
            if index:
                seconds[name].append(clock() - start)
                peaks[name].append(peak_mib())
    return summarise(seconds, steps, images, base, peaks)


class Parts:
    """Seconds of the parts of a step.

    Parts are timed apart, waiting for the device before and after each, so
    their sum is more than an undisturbed step where a GPU is used.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self._patched: list[tuple[object, str]] = []

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Add what happens inside to a part."""
        _wait()
        start = self.clock()
        try:
            yield
        finally:
            _wait()
            spent = self.clock() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def watch(
        self, owner: object, method: str, name: str | Callable[..., str]
    ) -> None:
        """Time every call of a method of one object.

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

        owner.__dict__[method] = timed
        self._patched.append((owner, method))

    def release(self) -> None:
        """Undo :meth:`watch`."""
        for owner, method in self._patched:
            del owner.__dict__[method]
        self._patched.clear()


def watch_model(parts: Parts, model: nn.Module, wrapper: object) -> None:
    """Time the parts of a step of a :class:`Distiller`.

    Args:
        parts: where the seconds go.
        model: not wrapped.
        wrapper: the optimizer wrapper.
    """
    parts.watch(model.data_preprocessor, 'forward', 'views')
    parts.watch(model, 'encode', lambda name, *_, **__: f'{name} forward')
    for name, head in model.heads.items():
        parts.watch(head, 'loss', f'head {name}')
    if model.momentum is not None:
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
        loop: of a runner whose model is a :class:`Distiller`.
        steps: to average over.
        clock: see :func:`measure`.
    """
    runner, parts = loop.runner, Parts(clock)
    loop.drain()
    watch_model(parts, runner.model, runner.optim_wrapper)
    parts.watch(runner, 'call_hook', 'hooks')
    try:
        with parts.timing('total'):
            for _ in range(steps):
                with parts.timing('waiting for data'):
                    batch = next(loop.dataloader_iterator)
                loop.run_iter(batch)
    finally:
        parts.release()
    found = {k: 1000 * v / steps for k, v in parts.seconds.items()}
    total = found.pop('total')
    return dict(
        sorted(found.items(), key=lambda item: -item[1]),
        rest=total - sum(found.values()),
        total=total,
    )


# --- networks alone ---------------------------------------------------------


def run_networks(model: nn.Module, views: list[Tensor]) -> Tensor:
    """Run each network as the heads need it; return a scalar to derive.

    Heads get nothing, so what is left is the networks' own cost.

    Args:
        model: a :class:`Distiller`.
        views: as it gets them.
    """
    num_global = model._count_global(views)
    total = views[0].new_zeros(())
    for name in NETWORKS:
        found = model.encode(name, views, num_global)
        if found is None:
            continue
        outputs = [
            *found.embeddings,
            *found.dropout_embeddings,
            *(() if found.embeddings else found.features),
            *(m for maps in found.feature_maps for m in maps or ()),
            *(m for maps in found.pre_relu_maps for m in maps or ()),
        ]
        for output in outputs:
            if output is not None and output.requires_grad:
                total = total + output.float().square().mean()
    return total


class NetworksAlone(nn.Module):
    """:func:`run_networks` as a module, for data-parallel wrappers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, views: list[Tensor]) -> Tensor:
        """Return the scalar."""
        return run_networks(self.model, views)


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

    def drain(self) -> None:
        """Throw away what workers have prepared in the meantime."""
        loader = self.dataloader
        ahead = loader.num_workers * (loader.prefetch_factor or 0)
        for _ in range(ahead):
            next(self.dataloader_iterator)


def stepped_loop(
    cfg: Config, work_dir: str | Path, name: str
) -> SteppedTrainLoop:
    """Start the training of a config, up to its first iteration.

    Checkpoints and probes are left out; all other hooks are there.

    Args:
        cfg: complete; not changed.
        work_dir: for logs.
        name: of the run; another for each in a process.
    """
    from mmssd.apis import config as configs
    from mmssd.apis.train import build_runner

    cfg = Config(cfg.to_dict())
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = name
    cfg.log_level = 'ERROR'
    cfg.train_cfg = ConfigDict(type='SteppedTrainLoop', max_iters=FOREVER)
    cfg.param_scheduler = None
    cfg.setdefault('default_hooks', ConfigDict()).checkpoint = None
    cfg.custom_hooks = [
        hook
        for hook in cfg.get('custom_hooks') or []
        if 'Probe' not in str(hook.get('type'))
        and 'InformationPlane' not in str(hook.get('type'))
    ]
    configs.set_health(cfg)
    configs.set_dataloaders(cfg)
    configs.disable_validation(cfg)
    runner = build_runner(cfg)
    runner.train()
    return runner.train_loop


@HOOKS.register_module()
class FirstIterationHook(Hook):
    """Say how long it took to the end of the first iteration, and stop.

    The environment says when the process was started.
    """

    def after_train_iter(self, runner, *_, **__) -> None:
        """Print the seconds and leave."""
        _wait()
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
                f'batch of {batch}, as mmpretrain demands: set --batch-sizes '
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
    fast = dict(dataset, pipeline=[*load, dict(type='PackImage')])
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
    float32.

    Args:
        model: a :class:`Distiller` on the CPU.
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
        model(views, mode='loss')
    finally:
        for kind, function in kept.items():
            setattr(dist, kind, function)
        dist.destroy_process_group()
    return found


# --- where ------------------------------------------------------------------


def machine() -> dict:
    """Return what was measured on: processor, GPU, threads, versions."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu = next(
            line.partition(':')[2].strip()
            for line in lines
            if line.startswith('model name')
        )
    except (OSError, StopIteration):
        pass
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
