import json
import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, HOOKS, MODELS
from mmpretrain.utils import register_all_modules
from torch import nn

from mmssd.engine.hooks.knn_probe_hook import (
    KNNProbeHook,
    preserved_random_state,
)
from mmssd.evaluation.features import extract_features
from mmssd.evaluation.knn import knn_accuracy

CLASSES = 3
EVAL = [dict(type='PackInputs')]
TRAIN = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]


@DATASETS.register_module()
class ProbeTestImages(BaseDataset):
    """Noise around one grey level per class."""

    def __init__(self, num, seed, labelled=True, **kwargs):
        self.num, self.seed, self.labelled = num, seed, labelled
        super().__init__(**kwargs)

    def load_data_list(self):
        rng = np.random.RandomState(self.seed)
        items = []
        for i in range(self.num):
            label = i % CLASSES
            level = 60 + 50 * label
            noise = rng.randint(-50, 50, (8, 8, 3))
            item = dict(img=(level + noise).astype(np.uint8), sample_idx=i)
            if self.labelled:
                item['gt_label'] = label
            items.append(item)
        return items


@MODELS.register_module()
class ProbeTestTeacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 2, 8), nn.BatchNorm2d(2))


@HOOKS.register_module()
class ProbeTestState(Hook):
    """Note the random states and the modes that each step starts with."""

    def __init__(self):
        self.states = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.states.append(
            (
                torch.get_rng_state().tolist(),
                np.random.get_state()[1].tolist(),
                random.getstate(),
                [m.training for m in runner.model.modules()],
            )
        )


def images(num=12, seed=0, pipeline=EVAL, **kwargs):
    return dict(
        type='ProbeTestImages', num=num, seed=seed, pipeline=pipeline, **kwargs
    )


def probe(**kwargs):
    return {
        **dict(
            type='KNNProbeHook',
            bank=images(9, seed=1),
            query=images(7, seed=2),
            interval=1,
            k=3,
            batch_size=4,
        ),
        **kwargs,
    }


def build_runner(work_dir, hooks, epochs=2, max_iters=None, **kwargs):
    register_all_modules(init_default_scope=True)
    if max_iters is None:
        train_cfg = dict(by_epoch=True, max_epochs=epochs)
    else:
        train_cfg = dict(by_epoch=False, max_iters=max_iters)
    config = dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            backbone=dict(
                type='ResNet_CIFAR',
                depth=18,
                stem_channels=4,
                base_channels=4,
                drop_path_rate=0.2,
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead', num_classes=CLASSES, in_channels=32
            ),
        ),
        data_preprocessor=dict(mean=[128.0] * 3, std=[64.0] * 3),
        train_dataloader=dict(
            batch_size=4,
            dataset=images(pipeline=TRAIN),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(
                type='CheckpointHook',
                interval=2,
                by_epoch=max_iters is None,
            ),
        ),
        custom_hooks=hooks,
        randomness=dict(seed=4),
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        log_level='WARNING',
        **kwargs,
    )
    return Runner.from_cfg(Config(config))


def records(work_dir):
    with open(work_dir / 'knn.json') as file:
        return [json.loads(line) for line in file]


def hook_of(runner, kind):
    return next(h for h in runner.hooks if isinstance(h, kind))


def test_training_is_bit_identical_with_the_probe(tmp_path):
    plain = build_runner(tmp_path / 'plain', [dict(type='ProbeTestState')])
    plain.train()
    probed = build_runner(
        tmp_path / 'probed',
        [
            probe(by_epoch=False, at_start=True, num_workers=1),
            dict(type='ProbeTestState'),
        ],
    )
    probed.train()
    expected, actual = (
        hook_of(r, ProbeTestState).states for r in (plain, probed)
    )
    assert len(expected) == 6
    assert actual == expected
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, probed.model.state_dict()[key]), key


def test_value_is_that_of_the_features(tmp_path):
    runner = build_runner(tmp_path, [probe()], epochs=1)
    runner.train()
    (record,) = records(tmp_path)
    sets = [DATASETS.build(images(n, seed=s)) for n, s in ((9, 1), (7, 2))]
    (bank, bank_labels), (query, labels) = (
        extract_features(runner.model, data) for data in sets
    )
    assert labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    expected = knn_accuracy(bank, bank_labels, query, labels, k=3)
    assert record['top1'] == pytest.approx(expected)
    assert (record['iter'], record['epoch'], record['part']) == (
        3,
        1,
        'student',
    )
    assert record['seconds'] >= 0
    scalar = runner.message_hub.get_scalar('knn/student_top1')
    assert scalar.current() == pytest.approx(expected)
    written = next(tmp_path.glob('*/vis_data/scalars.json')).read_text()
    assert '"knn/student_top1"' in written


@pytest.mark.parametrize(
    ('interval', 'by_epoch', 'expected'),
    [
        (1, True, [(3, 1), (6, 2), (9, 3)]),
        (2, True, [(6, 2), (9, 3)]),
        (4, False, [(4, 2), (8, 3), (9, 3)]),
        (3, False, [(3, 1), (6, 2), (9, 3)]),
        (100, False, [(9, 3)]),
    ],
)
def test_schedule(tmp_path, interval, by_epoch, expected):
    hook = probe(interval=interval, by_epoch=by_epoch, keep_images=True)
    build_runner(tmp_path, [hook], epochs=3).train()
    assert [(r['iter'], r['epoch']) for r in records(tmp_path)] == expected


def test_iteration_loop(tmp_path):
    runner = build_runner(
        tmp_path,
        [probe(interval=2, by_epoch=False, at_start=True)],
        max_iters=3,
    )
    runner.train()
    assert [r['iter'] for r in records(tmp_path)] == [0, 2, 3]


def test_record_survives_resume_without_doubles(tmp_path):
    hook = probe(by_epoch=False, keep_images=True)
    build_runner(tmp_path, [hook], epochs=2).train()
    # as if killed at iteration 8, while writing, with a checkpoint of 6
    with open(tmp_path / 'knn.json', 'a') as file:
        file.write('{"iter": 7, "part": "student", "top1": 0.0}\n{"iter": 8')
    build_runner(tmp_path, [hook], epochs=3, resume=True).train()
    found = records(tmp_path)
    assert [r['iter'] for r in found] == list(range(1, 10))
    assert 'seconds' in found[6]
    # a fresh run in the same folder starts a new record
    build_runner(tmp_path, [hook], epochs=1).train()
    assert [r['iter'] for r in records(tmp_path)] == [1, 2, 3]


def test_teacher_and_loader_config(tmp_path):
    loader = dict(dataset=images(9, seed=1), batch_size=2, num_workers=0)
    runner = build_runner(tmp_path, [probe(bank=loader)], epochs=1)
    runner.model.teacher = MODELS.build(dict(type='ProbeTestTeacher'))
    runner.train()
    assert [r['part'] for r in records(tmp_path)] == ['student', 'teacher']
    assert 'knn/teacher_top1' in runner.message_hub.log_scalars


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(parts=('teacher',)), "part='teacher'.* has no teacher"),
        (
            dict(query=images(6, seed=1, labelled=False)),
            'the query set .* has no labels',
        ),
        (
            dict(bank=images(0, seed=1, serialize_data=False)),
            'the bank set has no images',
        ),
        (
            dict(
                bank=images(9, seed=1, metainfo=dict(classes=('a', 'b'))),
                query=images(6, seed=1, metainfo=dict(classes=('b',))),
            ),
            "label 0 means 'a' in the one and 'b' in the other",
        ),
        (dict(k=10), 'k=10, but the bank has only 9'),
    ],
)
def test_errors_before_the_first_step(tmp_path, change, message):
    runner = build_runner(tmp_path, [probe(**change)])
    with pytest.raises(ValueError, match=message):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(interval=0), 'interval=0'),
        (dict(k=0), 'k=0'),
        (dict(temperature=0), 'temperature=0'),
        (dict(parts=('assistant',)), "part 'assistant'"),
    ],
)
def test_errors_of_arguments(change, message):
    arguments = probe(**change)
    arguments.pop('type')
    with pytest.raises(ValueError, match=message):
        KNNProbeHook(**arguments)


def test_random_state_comes_back_after_an_error():
    torch.manual_seed(0)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(0)
    np_state, py_state = np.random.get_state(), random.getstate()
    with pytest.raises(RuntimeError), preserved_random_state():
        torch.rand(3), np.random.rand(3), random.random()
        raise RuntimeError
    assert torch.equal(torch.rand(1), expected[0])
    assert (np.random.get_state()[1] == np_state[1]).all()
    assert random.getstate() == py_state
