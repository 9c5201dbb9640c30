"""The main job: pretrain, compare, transfer and report, on real images.

Every stage is a command of ``tools/`` or a function of the package, writes
its result into its own folder, and is not repeated once it is there, so an
interrupted demo goes on where it stopped.
"""

import hashlib
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

# a checkout, else what an installed package carries
ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / 'configs' / 'demo').is_dir():
    ROOT = Path(__file__).resolve().parents[1] / '.mim'
CONFIGS = ROOT / 'configs' / 'demo'
DETECTOR = 'faster-rcnn_resnet18w4-fpn_1xb8-300i_garments.py'
PLANE = 'information-plane_resnet18w4_1xb256-1e_garments.py'
AP50 = 'coco/bbox_mAP_50'
FEW_DRAWS = 5  # choices of 1 % of the labels
SHOWN = re.compile(
    r'Iter\((train|val)\)|k-NN top|WARNING(?!.*(FileClient|HardDiskBackend))'
    r'|ERROR|Error|error:'
)


class StageError(RuntimeError):
    """A stage of a demo that failed, or cannot go on in its folder."""


@dataclass(frozen=True)
class Arm:
    """One pretraining of a demo.

    Args:
        name: of its student, in the table and on screen.
        slug: of its folder.
        config: file name in ``configs/demo``.
        taught: whether its frozen teacher is the one of the OSS run.
    """

    name: str
    slug: str
    config: str
    taught: bool = False


@dataclass(frozen=True)
class Method:
    """What ``make demo METHOD=...`` compares.

    Args:
        title: of the report.
        arms: pretrainings in the order of the table, the last of which goes
            into the detector. OSS is always trained first, for its teacher.
        planes: arms whose information planes are drawn.
    """

    title: str
    arms: tuple[Arm, ...]
    planes: tuple[Arm, ...] = ()

    @property
    def main(self) -> Arm:
        """The arm that goes into the detector."""
        return self.arms[-1]


def _arm(name: str, slug: str, networks: str, taught: bool = True) -> Arm:
    config = f'{slug}_{networks}_1xb256-coslr-700i_garments.py'
    return Arm(name, slug, config, taught)


ALONE, TAUGHT = 'resnet18w4', 'resnet18w4-resnet18w32'
OSS = _arm('OSS student', 'oss', TAUGHT, taught=False)
SWAV = _arm('SwAV alone', 'swav', ALONE, taught=False)
MOCO = _arm('MoCo-v2 alone', 'mocov2', ALONE, taught=False)
SEED = _arm('SEED student', 'seed', TAUGHT)
COMPRESS_1Q = _arm('CompRess-1q student', 'compress-1q', TAUGHT)
COMPRESS_2Q = _arm('CompRess-2q student', 'compress-2q', TAUGHT)
DISCO = _arm('DisCo student', 'disco', TAUGHT)
RKD_DISCO = _arm('RKD + DisCo student', 'rkd-disco', TAUGHT)
# the width of the student's hidden layer, 256 in DISCO
DISCO_WIDTHS = tuple(
    _arm(f'DisCo student, {text}', f'disco-hidden-{width}', TAUGHT)
    for width, text in (
        ('none', 'no hidden layer'),
        ('32', 'hidden 32'),
        ('1024', 'hidden 1024'),
    )
)
METHODS = {
    'oss': Method('online self-supervised distillation', (SWAV, OSS)),
    'seed': Method('distillation by SEED', (MOCO, SEED)),
    'compress': Method(
        'distillation by CompRess', (MOCO, COMPRESS_1Q, COMPRESS_2Q)
    ),
    'disco': Method(
        'distillation by DisCo',
        (MOCO, *DISCO_WIDTHS, RKD_DISCO, DISCO),
        planes=(*DISCO_WIDTHS[:2], DISCO, DISCO_WIDTHS[2]),
    ),
}


@dataclass(frozen=True)
class Demo:
    """Settings of one demo.

    Args:
        work_dir: where everything goes.
        method: key of :data:`METHODS`.
        data_root: folder of the garment scenes.
        fashion_root: folder of Fashion-MNIST.
        seeds: how many seeds to run, 0, 1, ...
        options: overrides of the pretraining configs, ``key=value``.
        detector_options: overrides of the detector config.
        subset: numbers of single and multi scenes, train and val.
        say: prints progress.
    """

    work_dir: Path
    method: str = 'oss'
    data_root: Path = Path('data/garments')
    fashion_root: Path = Path('data/fashion_mnist')
    seeds: int = 1
    options: tuple[str, ...] = ()
    detector_options: tuple[str, ...] = ()
    single: tuple[int, int] = (40_000, 5_000)
    multi: tuple[int, int] = (2_000, 500)
    say: Callable[[str], None] = print


def bfloat16_pays() -> bool:
    """Whether this machine computes bfloat16 natively."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path('/proc/cpuinfo').read_text()
    except OSError:
        return False
    return 'avx512_bf16' in flags or 'amx_bf16' in flags


def write_json(path: Path, content) -> None:
    """Write a file that is complete or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + '.partial')
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def read_json(path: Path):
    """Return the content of a JSON file, ``None`` without one."""
    return json.loads(path.read_text()) if path.is_file() else None


@contextmanager
def timed(folder: Path) -> Iterator[Callable[[], float]]:
    """Count the minutes of a stage over all calls that it took."""
    path = folder / 'seconds.json'
    start, before = time.time(), read_json(path) or 0.0

    def minutes() -> float:
        return (before + time.time() - start) / 60

    try:
        yield minutes
    finally:
        write_json(path, 60 * minutes())


def check_recipe(
    demo: Demo, config: str, folder: Path, options: list[str]
) -> None:
    """Refuse to go on in a folder that another recipe has begun.

    Raises:
        StageError: naming the folder and the remedy.
    """
    from .config import load_config

    data = demo.data_root / 'manifest.json'
    recipe = [
        load_config(CONFIGS / config).pretty_text,
        ' '.join(options),
        data.read_text() if data.is_file() else '',
    ]
    found = hashlib.sha256('\n'.join(recipe).encode()).hexdigest()
    path = folder / 'recipe.json'
    if folder.is_dir() and read_json(path) not in (None, found):
        raise StageError(
            f'{folder} was begun with another config, other options or '
            'other data, and its results would be mixed up with new ones: '
            f'remove {demo.work_dir}, or give another one by WORK_DIR=...'
        )
    write_json(path, found)


def run_training(
    demo: Demo, config: str, folder: Path, options: list[str]
) -> None:
    """Run ``tools/train.py``, resuming, and show its progress lines.

    Raises:
        StageError: if it fails, with its last lines.
        KeyboardInterrupt: after the training has stopped on Ctrl-C.
    """
    arguments = ['--work-dir', str(folder), '--resume']
    if config not in (DETECTOR, PLANE) and bfloat16_pays():
        arguments.append('--amp')
    run_tool(demo, 'train', [str(CONFIGS / config), *arguments], options)


def run_tool(
    demo: Demo, name: str, arguments: list[str], options: list[str]
) -> None:
    """Run a tool and show the lines that tell progress.

    Raises:
        StageError: if it fails, with its last lines.
        KeyboardInterrupt: after it has stopped on Ctrl-C.
    """
    tool = str(ROOT / 'tools' / f'{name}.py')
    command = [sys.executable, '-W', 'ignore', tool, *arguments]
    if options:
        command += ['--cfg-options', *options]
    last: list[str] = []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        for line in process.stdout:
            line = line.rstrip()
            last = [*last[-30:], line]
            if SHOWN.search(line):
                demo.say('    ' + re.sub(r'^.*? - INFO - ', '', line))
        process.wait()
    except KeyboardInterrupt:
        # the terminal sent it to the training too, which needs no second
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    if process.returncode == 130:
        raise KeyboardInterrupt
    if process.returncode:
        raise StageError(
            f'tools/{name}.py {" ".join(arguments)} failed (status '
            f'{process.returncode}):\n' + '\n'.join(last)
        )


def last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint that a finished training points to."""
    return Path((folder / 'last_checkpoint').read_text().strip())


def make_data(demo: Demo) -> None:
    """Make the garment scenes, once."""
    from mmssd.datasets import fashion_mnist, make_garment_scenes

    make_garment_scenes(
        demo.data_root,
        fashion_mnist(demo.fashion_root),
        single=demo.single,
        multi=demo.multi,
    )


def pretrain(demo: Demo, arm: Arm, seed: int) -> dict:
    """Pretrain by one config and return the checkpoint and the minutes."""
    folder = demo.work_dir / f'seed{seed}' / arm.slug
    options = [
        f'randomness.seed={seed}',
        f'train_dataloader.dataset.data_root={demo.data_root}',
        f'custom_hooks.1.bank.data_root={demo.data_root}',
        f'custom_hooks.1.query.data_root={demo.data_root}',
        *demo.options,
    ]
    if arm.taught:
        teacher = pretrain(demo, OSS, seed)['checkpoint']
        options.append(f'model.teacher.checkpoint={teacher}')
    check_recipe(demo, arm.config, folder, options)
    result = read_json(folder / 'result.json')
    if result is None:
        with timed(folder) as minutes:
            run_training(demo, arm.config, folder, options)
        result = dict(
            checkpoint=str(last_checkpoint(folder)), minutes=minutes()
        )
        write_json(folder / 'result.json', result)
    return result


def load_model(demo: Demo, arm: Arm, seed: int, checkpoint: str | None = None):
    """Build the model of an arm, untrained without a checkpoint."""
    from mmengine.config import DictAction
    from mmengine.registry import DefaultScope
    from mmengine.runner import set_random_seed
    from mmpretrain.registry import MODELS

    from mmssd.apis.config import load_config
    from mmssd.models.utils.checkpoint import load_checkpoint

    set_random_seed(seed)
    pairs = (option.split('=', 1) for option in demo.options)
    options = {key: DictAction._parse_iterable(text) for key, text in pairs}
    config = load_config(CONFIGS / arm.config, options)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    if checkpoint is None:
        logging.disable(logging.INFO)  # a line for every parameter
        model.init_weights()
        logging.disable(logging.NOTSET)
    else:
        model.load_state_dict(load_checkpoint(checkpoint)['state_dict'])
    return model.eval()


def classify(
    demo: Demo, name: str, seed: int, features: Callable
) -> dict[str, float]:
    """Return k-NN and linear accuracies, in percent, of one feature map.

    Args:
        demo: settings.
        name: of the row, also of its result file.
        seed: of the run. The 1 % of the labels are five draws, the same
            for all rows and seeds, of which the mean counts.
        features: maps ``(N, S, S, 3)`` uint8 images to ``(N, C)``.
    """
    from mmssd.evaluation import knn_classify, linear_probe, stratified_subset

    path = demo.work_dir / f'seed{seed}' / 'classify' / f'{name}.json'
    result = read_json(path)
    if result is not None:
        return result
    start = time.time()
    x, y, vx, vy = single_scenes(demo)
    train, val = features(x), features(vx)
    predicted = knn_classify(train, y, val, k=20, temperature=0.07).argmax(1)
    few = []
    for draw in range(FEW_DRAWS):
        rows = stratified_subset(y, fraction=0.01, seed=draw)
        few.append(linear_probe(train[rows], y[rows], val, vy)['top1'])
    result = dict(
        knn=100 * (predicted == vy).float().mean().item(),
        linear_1=float(np.mean(few)),
        linear_100=linear_probe(train, y, val, vy)['top1'],
        seconds=time.time() - start,
    )
    write_json(path, result)
    return result


def single_scenes(demo: Demo):
    """Return train images and labels, val images and labels."""
    arrays = []
    for split in ('train', 'val'):
        images = np.load(demo.data_root / f'single_{split}_images.npy')
        labels = np.load(demo.data_root / f'single_{split}_labels.npy')
        arrays += [images, torch.from_numpy(labels).long()]
    return arrays


def raw_pixels(images: np.ndarray) -> torch.Tensor:
    """Return ``(N, 768)`` features: the images at 16 px."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return torch.nn.functional.adaptive_avg_pool2d(x, 16).flatten(1)


def network_features(model, part: str) -> Callable:
    """Return the feature map of one network of a model."""
    from mmssd.evaluation import extract_features

    def features(images: np.ndarray) -> torch.Tensor:
        return extract_features(model, images, part=part)[0]

    return features


def last_logged(folder: Path, key: str = AP50) -> float | None:
    """Return the last AP50, or other metric, of a training's log, if any."""
    found = [
        record[key]
        for path in sorted(folder.glob('*/vis_data/scalars.json'))
        for record in map(json.loads, path.read_text().splitlines())
        if key in record
    ]
    return found[-1] if found else None


def detect(demo: Demo, name: str, seed: int, backbone: str | None) -> dict:
    """Train and evaluate the detector from a backbone; return AP50.

    A detector that finds nothing has an AP50 of 0.
    """
    folder = demo.work_dir / f'seed{seed}' / f'detect_{name}'
    root = f'{demo.data_root}/multi/'
    options = [
        f'randomness.seed={seed}',
        f'train_dataloader.dataset.data_root={root}',
        f'val_dataloader.dataset.data_root={root}',
        f'test_dataloader.dataset.data_root={root}',
        f'val_evaluator.ann_file={root}instances_val.json',
        f'test_evaluator.ann_file={root}instances_val.json',
        *demo.detector_options,
    ]
    if backbone is None:
        options.append('model.backbone.init_cfg=None')
    else:
        options.append(f'model.backbone.init_cfg.checkpoint={backbone}')
    check_recipe(demo, DETECTOR, folder, options)
    result = read_json(folder / 'result.json')
    if result is not None:
        return result
    with timed(folder) as minutes:
        run_training(demo, DETECTOR, folder, options)
        ap50 = last_logged(folder)
        if ap50 is None:
            # interrupted after the last checkpoint, or nothing was found
            out = folder / 'test' / 'metrics.json'
            run_tool(
                demo,
                'test',
                [
                    *(str(CONFIGS / DETECTOR), str(last_checkpoint(folder))),
                    *('--work-dir', str(out.parent), '--out', str(out)),
                ],
                options,
            )
            ap50 = (read_json(out) or {}).get(AP50)
    result = dict(
        # mmdet has no metrics when there is not one box
        ap50=100 * max(ap50 or 0.0, 0.0),
        checkpoint=str(last_checkpoint(folder)),
        minutes=minutes(),
        initialisation=backbone or 'random weights',
    )
    write_json(folder / 'result.json', result)
    return result


def export_student(demo: Demo, arm: Arm, checkpoint: str, seed: int) -> str:
    """Write the student's backbone for the detector; return the file."""
    from .export import export_backbone

    path = demo.work_dir / f'seed{seed}' / arm.slug / 'student.pth'
    export_backbone(checkpoint, path, force=True)
    return str(path)


def plane_folder(demo: Demo, arm: Arm, seed: int) -> Path:
    """Return the folder of the probe whose information plane is drawn."""
    return demo.work_dir / f'seed{seed}' / f'plane_{arm.slug}'


def probe_plane(demo: Demo, arm: Arm, seed: int, backbone: str) -> None:
    """Train the probe that records the information plane of a student."""
    folder = plane_folder(demo, arm, seed)
    options = [
        f'randomness.seed={seed}',
        f'train_dataloader.dataset.data_root={demo.data_root}',
        f'custom_hooks.3.images.data_root={demo.data_root}',
        f'model.backbone.init_cfg.checkpoint={backbone}',
    ]
    check_recipe(demo, PLANE, folder, options)
    if not (folder / 'result.json').is_file():
        run_training(demo, PLANE, folder, options)
        write_json(folder / 'result.json', {})


def run_seed(demo: Demo, seed: int) -> list[dict]:
    """Run all stages for one seed; return the rows of the table."""
    say, steps = demo.say, 5
    tag = f'seed {seed}: ' if demo.seeds > 1 else ''
    method = METHODS[demo.method]
    say(f'{tag}[2/{steps}] pretraining, with as many student updates each')
    results = {}
    for arm in (OSS, *(arm for arm in method.arms if arm != OSS)):
        also = ' and its online teacher' if arm == OSS else ''
        say(f'  {arm.name}{also}: configs/demo/{arm.config}')
        results[arm] = pretrain(demo, arm, seed)

    say(f'{tag}[3/{steps}] k-NN and linear probes on frozen features')
    sources = {
        'raw pixels': raw_pixels,
        'untrained': network_features(load_model(demo, OSS, seed), 'student'),
    }
    minutes = {}
    for arm in method.arms:
        result = results[arm]
        model = load_model(demo, arm, seed, result['checkpoint'])
        sources[arm.name] = network_features(model, 'student')
        minutes[arm.name] = result['minutes']
    model = load_model(demo, OSS, seed, results[OSS]['checkpoint'])
    sources['OSS teacher'] = network_features(model, 'teacher')
    minutes['OSS teacher'] = results[OSS]['minutes']
    rows = []
    for name, features in sources.items():
        slug = re.sub(r'\W+', '_', name.lower())
        say(f'    {name}: features and probes')
        scores = classify(demo, slug, seed, features)
        say(
            f'    {name:12s} k-NN {scores["knn"]:5.1f}  '
            f'linear 1 % {scores["linear_1"]:5.1f}  '
            f'linear 100 % {scores["linear_100"]:5.1f}'
        )
        rows.append(
            dict(
                method=name,
                knn=scores['knn'],
                linear_1=scores['linear_1'],
                linear_100=scores['linear_100'],
                minutes=minutes.get(name),
                ap50=None,
            )
        )
    if method.planes:
        say('    information planes of probes')
    for arm in method.planes:
        student = export_student(demo, arm, results[arm]['checkpoint'], seed)
        probe_plane(demo, arm, seed, student)
    say(f'{tag}[4/{steps}] Faster R-CNN on the multi scenes, twice')
    main = method.main
    student = export_student(demo, main, results[main]['checkpoint'], seed)
    for name, slug, backbone in (
        ('untrained', 'random', None),
        (main.name, main.slug, student),
    ):
        say(f'    from {backbone or "random weights"}')
        result = detect(demo, slug, seed, backbone)
        next(r for r in rows if r['method'] == name)['ap50'] = result['ap50']
    return rows


def run_demo(demo: Demo) -> Path:
    """Run the demo; return the report's file.

    Raises:
        StageError: if a stage fails, or the folder holds another recipe.
    """
    from mmssd.visualization.report import write_report

    method = METHODS[demo.method]
    demo.work_dir.mkdir(parents=True, exist_ok=True)
    demo.say('[1/5] data: garment scenes from Fashion-MNIST')
    make_data(demo)
    tables = [run_seed(demo, seed) for seed in range(demo.seeds)]
    demo.say('[5/5] report')
    main, seed0 = method.main, demo.work_dir / 'seed0'
    return write_report(
        demo.work_dir / ('report' if main == OSS else f'report_{demo.method}'),
        f'Demo: {method.title} on garment scenes',
        tables,
        # the curves say whether they are of the student or the teacher
        pretrainings={
            arm.name.replace(' student', ''): seed0 / arm.slug
            for arm in method.arms
        },
        detectors={
            'random weights': seed0 / 'detect_random',
            main.name: seed0 / f'detect_{main.slug}',
        },
        data_root=demo.data_root,
        planes={
            arm.name.replace(' student', ''): plane_folder(demo, arm, 0)
            for arm in method.planes
        },
    )
