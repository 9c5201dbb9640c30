"""Visual Priors in miniature: 50 labelled images of every class, two phases.

The rows of Table 1 of `Distilling Visual Priors from Self-Supervised
Learning <https://arxiv.org/abs/2008.00261>`_ on garment scenes, and beside it
what the margin does in phase 1 (Table 2). Stages are kept and resumed as in
:mod:`mmssd.apis.demo`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch

from . import demo as stages
from .demo import Demo

PHASE_1 = 'moco-margin_resnet18w8_1xb250-coslr-800e_garments-50.py'
ACCURACY = 'accuracy/top1'
NEGATIVES = (256, 1024, 4096)
MARGINS = (0.0, 0.4)


@dataclass(frozen=True)
class Row:
    """One training with labels.

    Args:
        name: in the table and on screen.
        slug: of its folder.
        config: file name in ``configs/demo``.
        pretrained: whether its backbone comes from phase 1.
        taught: whether phase 1 is also its teacher.
    """

    name: str
    slug: str
    config: str
    pretrained: bool = True
    taught: bool = False


def _row(name: str, slug: str, networks: str = 'resnet18w8', **kwargs) -> Row:
    config = f'{slug}_{networks}_1xb50-coslr-30e_garments-50.py'
    return Row(name, slug, config, **kwargs)


ROWS = (
    _row('supervised only', 'supervised', pretrained=False),
    _row('phase 1 + linear', 'linear'),
    _row('phase 1 + fine-tune', 'finetune'),
    _row('phase 1 + phase 2', 'ofd', 'resnet18w8-resnet18w8', taught=True),
)


def train(
    demo: Demo, seed: int, slug: str, config: str, options: list[str]
) -> dict:
    """Train by one config; return checkpoint, minutes, last accuracy.

    A finished training is not repeated, an interrupted one goes on.

    Args:
        demo: settings.
        seed: of the run.
        slug: of its folder.
        config: file name in ``configs/demo``.
        options: overrides of the config, ``key=value``.
    """
    folder = run_folder(demo, seed, slug)
    options = [f'randomness.seed={seed}', *options, *demo.options]
    stages.check_recipe(demo, config, folder, options)
    result = stages.read_json(folder / 'result.json')
    if result is None:
        with stages.timed(folder) as minutes:
            stages.run_training(demo, config, folder, options)
        result = dict(
            checkpoint=str(stages.last_checkpoint(folder)),
            top1=stages.last_logged(folder, ACCURACY),
            minutes=minutes(),
        )
        stages.write_json(folder / 'result.json', result)
    return result


def run_folder(demo: Demo, seed: int, slug: str) -> Path:
    """Folder of one training."""
    return demo.work_dir / f'seed{seed}' / 'visual_priors' / slug


def phase_1(
    demo: Demo, seed: int, slug: str = 'phase_1', options: tuple = ()
) -> dict:
    """Pretrain without labels; return checkpoint and minutes."""
    roots = (
        'train_dataloader.dataset',
        'custom_hooks.1.bank',
        'custom_hooks.1.query',
    )
    given = [f'{place}.data_root={demo.data_root}' for place in roots]
    return train(demo, seed, slug, PHASE_1, [*given, *options])


def label(demo: Demo, seed: int, row: Row, pretrained: str) -> dict:
    """Train with labels; return accuracy on the val scenes and minutes.

    Args:
        demo: settings.
        seed: of the run.
        row: what to train.
        pretrained: checkpoint of phase 1.
    """
    options = [
        f'{split}_dataloader.dataset.data_root={demo.data_root}'
        for split in ('train', 'val', 'test')
    ]
    if row.pretrained:
        options.append(f'model.backbone.init_cfg.checkpoint={pretrained}')
    if row.taught:
        options.append(f'model.teacher.checkpoint={pretrained}')
    return train(demo, seed, row.slug, row.config, options)


def run_phases(demo: Demo, seed: int) -> list[dict]:
    """Run both phases and what they are compared with; return the rows."""
    tag = f'seed {seed}: ' if demo.seeds > 1 else ''
    demo.say(f'{tag}[2/4] phase 1, without labels: configs/demo/{PHASE_1}')
    first = phase_1(demo, seed)
    demo.say(f'{tag}[3/4] with labels, as many epochs in every row')
    rows = []
    for row in ROWS:
        demo.say(f'  {row.name}: configs/demo/{row.config}')
        result = label(demo, seed, row, first['checkpoint'])
        demo.say(f'    {row.name:20s} top-1 {result["top1"]:5.1f}')
        rows.append(
            dict(
                method=row.name,
                top1=result['top1'],
                minutes=result['minutes'],
                minutes_phase_1=first['minutes'] if row.pretrained else None,
            )
        )
    return rows


def labelled_sets(demo: Demo) -> list:
    """Return images and labels of the 500 scenes and of all val scenes."""
    from mmpretrain.registry import DATASETS

    from .config import load_config

    hook = load_config(stages.CONFIGS / PHASE_1).custom_hooks[1]
    root = str(demo.data_root)
    sets = (
        dict(hook.bank, data_root=root),
        dict(hook.query, data_root=root, subset=None),
    )
    return [DATASETS.build(config).arrays() for config in sets]


def probe(
    demo: Demo, seed: int, slug: str, options: tuple, checkpoint: str
) -> dict:
    """Return k-NN and linear accuracy, in percent, by the 500 labels.

    Args:
        demo: settings.
        seed: of the run.
        slug: of the folder of its phase 1.
        options: overrides of its config.
        checkpoint: of its phase 1.
    """
    from mmssd.evaluation import extract_features, knn_accuracy, linear_probe

    path = run_folder(demo, seed, slug) / 'probe.json'
    result = stages.read_json(path)
    if result is None:
        arm = stages.Arm('phase 1', slug, PHASE_1)
        own = replace(demo, options=(*demo.options, *options))
        model = stages.load_model(own, arm, seed, checkpoint)
        rows = []
        for images, labels in labelled_sets(demo):
            features, _ = extract_features(model, images)
            rows += [features, torch.from_numpy(labels)]
        result = dict(
            knn=knn_accuracy(*rows), linear=linear_probe(*rows)['top1']
        )
        stages.write_json(path, result)
    return result


def run_margins(demo: Demo, seed: int) -> list[dict]:
    """Run phase 1 with and without margin; return the rows."""
    tag = f'seed {seed}: ' if demo.seeds > 1 else ''
    demo.say(f'{tag}[2/3] phase 1 and its probes: configs/demo/{PHASE_1}')
    head, rows = 'model.heads.contrast', []
    for margin, number in product(MARGINS, NEGATIVES):
        name = f'margin {margin}, {number} negatives'
        slug = f'phase_1_k{number}_m{margin}'
        options = (f'{head}.queue_length={number}', f'{head}.margin={margin}')
        demo.say(f'  {name}')
        result = phase_1(demo, seed, slug, options)
        scores = probe(demo, seed, slug, options, result['checkpoint'])
        demo.say(
            f'    {name:28s} k-NN {scores["knn"]:5.1f}  linear '
            f'{scores["linear"]:5.1f}'
        )
        rows.append(dict(method=name, **scores, minutes=result['minutes']))
    return rows


def run_visual_priors(demo: Demo) -> Path:
    """Run both phases and what they are compared with; return the report.

    Raises:
        StageError: if a stage fails, or the folder holds another recipe.
    """
    from mmssd.visualization import report

    tables = _run_seeds(demo, run_phases, '4/4')
    folder = demo.work_dir / 'report_visual_priors'
    folder.mkdir(parents=True, exist_ok=True)
    columns = dict(
        method='method',
        top1='top-1',
        minutes='minutes with labels',
        minutes_phase_1='minutes of phase 1',
    )
    table = report.write_table(folder, columns, tables)
    runs = {row.name: run_folder(demo, 0, row.slug) for row in ROWS}
    first = {'phase 1': run_folder(demo, 0, 'phase_1')}
    report.plot_losses(
        {**first, ROWS[-1].name: runs[ROWS[-1].name]}, folder / 'losses.png'
    )
    report.plot_knn(first, folder / 'knn.png')
    report.plot_accuracy(runs, folder / 'accuracy.png', ACCURACY)
    text = [
        '# Demo: Visual Priors on 50 garment scenes of each class',
        '',
        *table,
        '',
        f'{report.count_seeds(tables)}. Top-1 on the val scenes, in percent, '
        'after the last epoch. All rows saw the same 500 labelled images, '
        'the same crops and as many epochs with labels; phase 1 saw the same '
        'images without labels, and no others. In phase 2 teacher and '
        'student both start from phase 1. The pictures are of seed 0.',
        '',
        '![losses](losses.png)',
        '![k-NN in phase 1](knn.png)',
        '![top-1 while training with labels](accuracy.png)',
        '',
    ]
    return _write(folder, text)


def run_margin_study(demo: Demo) -> Path:
    """Run phase 1 with and without margin; return the report.

    Raises:
        StageError: if a stage fails, or the folder holds another recipe.
    """
    from mmssd.visualization import report

    tables = _run_seeds(demo, run_margins, '3/3')
    folder = demo.work_dir / 'report_visual_priors_margin'
    folder.mkdir(parents=True, exist_ok=True)
    columns = dict(
        method='phase 1', knn='k-NN', linear='linear', minutes='minutes'
    )
    table = report.write_table(folder, columns, tables)
    text = [
        '# Demo: what the margin changes in phase 1 of Visual Priors',
        '',
        *table,
        '',
        f'{report.count_seeds(tables)}. Top-1 on the val scenes, in percent, '
        'by the 500 labelled images whose features phase 1 learned: k-NN '
        'with k = 20, T = 0.07; linear: logistic regression on frozen '
        'features. With 500 images the negatives differ in kind, not only in '
        'number: 256 keys are about half of the images, 1024 and 4096 all of '
        'them two and eight times, so that an image meets two or eight older '
        'keys of itself among its negatives (of 256 some images meet one), '
        'and more keys bring no new images. The paper has 50,000 images, of '
        'which even 4096 keys are a twelfth.',
        '',
    ]
    return _write(folder, text)


METHODS = {
    'visual_priors': run_visual_priors,
    'visual_priors_margin': run_margin_study,
}


def _run_seeds(demo: Demo, run: Callable, last: str) -> list[list[dict]]:
    demo.work_dir.mkdir(parents=True, exist_ok=True)
    steps = last.partition('/')[2]
    demo.say(f'[1/{steps}] data: garment scenes from Fashion-MNIST')
    stages.make_data(demo)
    tables = [run(demo, seed) for seed in range(demo.seeds)]
    demo.say(f'[{last}] report')
    return tables


def _write(folder: Path, text: list[str]) -> Path:
    path = folder / 'report.md'
    path.write_text('\n'.join(text))
    return path
