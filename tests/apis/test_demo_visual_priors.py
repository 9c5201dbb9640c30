"""Visual Priors in miniature: like with like, all rows, and going on."""

import importlib.util
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from mmpretrain.registry import DATASETS, MODELS

from mmssd.apis import demo as stages
from mmssd.apis import demo_visual_priors as module
from mmssd.apis.config import load_config
from mmssd.apis.demo import Demo
from mmssd.datasets import make_garment_scenes
from mmssd.datasets.fashion_mnist import CLASSES, FashionMNISTArrays

CONFIGS = {
    row.slug: load_config(stages.CONFIGS / row.config) for row in module.ROWS
}
FIRST = load_config(stages.CONFIGS / module.PHASE_1)


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


@pytest.mark.parametrize('row', module.ROWS, ids=lambda row: row.slug)
def test_rows_compare_like_with_like(row):
    config, base = CONFIGS[row.slug], CONFIGS['supervised']
    for key in (
        'train_dataloader',
        'train_cfg',
        'val_dataloader',
        'val_evaluator',
        'param_scheduler',
        'data_preprocessor',
    ):
        assert config[key] == base[key], key
    # thirty epochs of the 500 images
    loader = config.train_dataloader
    assert loader.batch_size * config.train_cfg.max_iters == 30 * 500
    assert config.val_dataloader.dataset.split == 'val'
    assert without(config.model.backbone, 'init_cfg') == FIRST.model.backbone
    assert ('init_cfg' in config.model.backbone) == row.pretrained
    assert ('teacher' in config.model) == row.taught
    assert config.model.head == base.model.head
    if not row.slug == 'linear':
        assert config.optim_wrapper == base.optim_wrapper


def test_accuracies_are_logged_at_their_iteration():
    for config in CONFIGS.values():
        assert config.default_hooks.logger.log_metric_by_epoch is False


def test_phase_1_has_the_same_images_and_no_labels():
    """The draw, too, is the same: both leave its seed at the default."""
    labelled = CONFIGS['supervised'].train_dataloader.dataset
    dataset = FIRST.train_dataloader.dataset
    assert without(dataset, 'pipeline') == without(labelled, 'pipeline')
    assert dataset.per_class == 50 and 'seed' not in dataset
    assert [step.type for step in dataset.pipeline] == ['PackImage']
    # what the k-NN probe knows are the same images
    bank = FIRST.custom_hooks[1].bank
    for key in ('type', 'split', 'per_class'):
        assert bank[key] == dataset[key]
    assert bank.subset is None and 'seed' not in bank
    assert FIRST.model.heads.contrast.margin == 0.4
    # whole epochs: every image once before any recurs
    assert 500 % FIRST.train_dataloader.batch_size == 0
    # no more keys than images
    assert FIRST.model.heads.contrast.queue_length <= 500
    assert FIRST.model.heads.contrast.queue_length in module.NEGATIVES


def test_teacher_and_student_are_phase_1():
    model = CONFIGS['ofd'].model
    assert model.teacher.backbone == FIRST.model.backbone
    start = model.backbone.init_cfg
    assert start.checkpoint == model.teacher.checkpoint
    assert start.prefix == 'backbone.'
    last = f'phase_1/iter_{FIRST.train_cfg.max_iters}.pth'
    assert start.checkpoint.endswith(last)
    head = model.distill_heads.overhaul
    assert head.start == dict(epochs=4)
    assert head.weight == 1e-4 and 'reference_sizes' not in head
    MODELS.build(model)  # widths and strides fit


# --- stages -----------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Trainings that only leave what a training leaves; what was called."""
    calls = []

    def run(demo, config, folder, options):
        calls.append((config, folder.name, options))
        log = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        records = [{'loss': 1.0, 'lr': 0.1, 'step': 1}]
        if config != module.PHASE_1:
            records += [
                {module.ACCURACY: 10.0, 'step': 1},
                {module.ACCURACY: 20.0 + len(calls), 'step': 2},
            ]
        log.write_text('\n'.join(map(json.dumps, records)) + '\n')
        (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))

    monkeypatch.setattr(stages, 'run_training', run)
    monkeypatch.setattr(stages, 'make_data', lambda demo: None)
    return calls


def test_what_each_row_is_trained_from(trained, tmp_path):
    demo = Demo(tmp_path, 'visual_priors', tmp_path / 'data', seeds=2)
    demo = replace(demo, say=lambda text: None, options=('a=1',))
    report = module.run_visual_priors(demo)
    slugs = ['phase_1', *CONFIGS]
    assert [slug for _, slug, _ in trained] == 2 * slugs
    for number, (config, slug, options) in enumerate(trained):
        seed = number // len(slugs)
        pretrained = tmp_path / f'seed{seed}/visual_priors/phase_1/iter_2.pth'
        given = dict(option.split('=', 1) for option in options)
        assert given['randomness.seed'] == str(seed) and given['a'] == '1'
        root = given['train_dataloader.dataset.data_root']
        assert root == str(tmp_path / 'data')
        assert len([v for v in given.values() if v == root]) == 3
        start = given.get('model.backbone.init_cfg.checkpoint')
        teacher = given.get('model.teacher.checkpoint')
        from_phase_1 = slug in ('linear', 'finetune', 'ofd')
        assert start == (str(pretrained) if from_phase_1 else None)
        assert teacher == (str(pretrained) if slug == 'ofd' else None)
        # every option is of something that the config has
        loaded = load_config(stages.CONFIGS / config)
        for key in given.keys() - {'a'}:
            place = loaded
            for part in key.split('.')[:-1]:
                place = place[int(part) if part.isdigit() else part]
    tables = json.loads((report.parent / 'table.json').read_text())
    names = [row.name for row in module.ROWS]
    for offset, rows in zip((22, 27), tables, strict=True):
        assert [row['method'] for row in rows] == names
        # the last accuracy of each log, in the order of the trainings
        assert [row['top1'] for row in rows] == [offset + i for i in range(4)]
        assert rows[0]['minutes_phase_1'] is None
        assert all(row['minutes_phase_1'] >= 0 for row in rows[1:])
    text = report.read_text()
    assert report.parent.name == 'report_visual_priors'
    assert '| supervised only | 24.5 ± 3.5 |' in text
    for name in ('losses.png', 'knn.png', 'accuracy.png'):
        assert (report.parent / name).stat().st_size > 5000


def test_a_finished_stage_is_not_repeated(trained, tmp_path, monkeypatch):
    demo = Demo(tmp_path, 'visual_priors', say=lambda text: None)
    run = stages.run_training

    def stop_at_fine_tuning(demo, config, folder, options):
        if folder.name == 'finetune':
            raise KeyboardInterrupt
        run(demo, config, folder, options)

    monkeypatch.setattr(stages, 'run_training', stop_at_fine_tuning)
    with pytest.raises(KeyboardInterrupt):
        module.run_visual_priors(demo)
    done = [slug for _, slug, _ in trained]
    assert done == ['phase_1', 'supervised', 'linear']
    monkeypatch.setattr(stages, 'run_training', run)
    report = module.run_visual_priors(demo)
    assert [slug for _, slug, _ in trained] == [*done, 'finetune', 'ofd']
    assert module.run_visual_priors(demo) == report
    assert len(trained) == 5
    with pytest.raises(RuntimeError, match='begun with another config'):
        module.run_visual_priors(replace(demo, options=('a=1',)))


def test_margins(trained, tmp_path, monkeypatch):
    demo = Demo(tmp_path, 'visual_priors_margin', say=lambda text: None)
    probed = []

    def probe(demo, seed, slug, options, checkpoint):
        probed.append((slug, checkpoint))
        return dict(knn=30.0, linear=40.0)

    monkeypatch.setattr(module, 'probe', probe)
    report = module.run_margin_study(demo)
    found = [
        {
            key.rpartition('.')[2]: float(value)
            for key, value in (option.split('=') for option in options)
            if 'contrast' in key
        }
        for _, _, options in trained
    ]
    assert found == [
        dict(queue_length=length, margin=margin)
        for margin in (0, 0.4)
        for length in (256, 1024, 4096)
    ]
    assert [slug for slug, _ in probed] == [slug for _, slug, _ in trained]
    assert len(set(probed)) == 6
    text = report.read_text()
    assert '| margin 0.4, 4096 negatives | 30.0 | 40.0 | ' in text
    assert report.parent.name == 'report_visual_priors_margin'
    module.run_margin_study(demo)
    assert len(trained) == 6


def test_the_tool_knows_the_methods(monkeypatch, capsys):
    path = stages.ROOT / 'tools' / 'demo.py'
    spec = importlib.util.spec_from_file_location('demo_tool', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, 'argv', ['demo.py', '--method', 'visual'])
    assert tool.main() == 2
    message = capsys.readouterr().err
    assert 'METHOD=visual: there is oss, ' in message
    for name in module.METHODS:
        assert name in message


# --- in earnest -------------------------------------------------------------


def _garments(n, seed):
    """Ten shapes of garment-like blobs, enough to be told apart."""
    random = np.random.RandomState(seed)
    labels = np.arange(n) % 10
    images = np.zeros((n, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 : 24 - label, 3 : 15 + label] = random.randint(60, 255)
    return images, labels.astype(np.uint8)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    pytest.importorskip('skimage')
    folder = tmp_path_factory.mktemp('scenes') / 'data'
    garments = FashionMNISTArrays(
        *_garments(600, 0), *_garments(200, 1), classes=CLASSES
    )
    make_garment_scenes(
        folder, garments, single=(700, 100), multi=(0, 0), num_workers=1
    )
    return folder


def test_both_phases_have_the_same_fifty_of_each_class(scenes):
    labelled = CONFIGS['supervised'].train_dataloader.dataset
    sets = [
        DATASETS.build(dict(dataset, data_root=str(scenes)))
        for dataset in (
            labelled,
            FIRST.train_dataloader.dataset,
            FIRST.custom_hooks[1].bank,
        )
    ]
    images, labels = sets[0].arrays()
    assert np.bincount(labels).tolist() == [50] * 10
    for dataset in sets[1:]:
        np.testing.assert_array_equal(dataset.arrays()[0], images)
    demo = Demo(scenes.parent, data_root=scenes)
    (train, _), (val, val_labels) = module.labelled_sets(demo)
    np.testing.assert_array_equal(train, images)
    assert len(val) == len(val_labels) == 100


@pytest.mark.slow
def test_all_rows_and_the_margins(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, 'make_data', lambda demo: None)
    said = []
    demo = Demo(
        tmp_path,
        'visual_priors',
        data_root=scenes,
        options=(
            # five epochs: phase 2 has one with its teacher
            'train_dataloader.batch_size=250',
            'train_cfg.max_iters=10',
            'train_cfg.val_interval=10',
            'default_hooks.logger.interval=5',
            'default_hooks.checkpoint.interval=5',
        ),
        say=said.append,
    )
    report = module.run_visual_priors(demo)
    (rows,) = json.loads((report.parent / 'table.json').read_text())
    assert [row['method'] for row in rows] == [r.name for r in module.ROWS]
    assert all(0 <= row['top1'] <= 100 for row in rows)
    folder = tmp_path / 'seed0' / 'visual_priors'
    (log,) = (folder / 'ofd').glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in log.read_text().splitlines()]
    terms = [
        r['overhaul.loss_overhaul']
        for r in records
        if 'overhaul.loss_overhaul' in r
    ]
    assert terms[-1] > 0  # taught in the fifth epoch
    assert any('k-NN top-1' in line for line in said)

    # Ctrl-C after the last checkpoint: only the accuracy is made up for
    (folder / 'ofd' / 'result.json').unlink()
    log.unlink()
    assert module.run_visual_priors(demo) == report
    (again,) = json.loads((report.parent / 'table.json').read_text())
    assert again[-1]['top1'] == pytest.approx(rows[-1]['top1'])
    assert again[:-1] == rows[:-1]

    monkeypatch.setattr(module, 'NEGATIVES', (256,))
    report = module.run_margin_study(demo)
    (rows,) = json.loads((report.parent / 'table.json').read_text())
    assert len(rows) == 2
    assert all(0 <= row[key] <= 100 for row in rows for key in ('knn',))
    assert all(0 <= row['linear'] <= 100 for row in rows)
