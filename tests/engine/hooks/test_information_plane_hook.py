"""The information plane: what is measured, when, and nothing else touched."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS
from mmpretrain.utils import register_all_modules

from mmssd.engine.hooks.information_plane_hook import InformationPlaneHook
from mmssd.evaluation.mutual_information import mutual_information

CLASSES = 3
EVAL = [dict(type='PackInputs')]


@DATASETS.register_module()
class PlaneTestImages(BaseDataset):
    """Noise around one grey level per class, sorted by class."""

    def __init__(self, num, labelled=True, **kwargs):
        self.num, self.labelled = num, labelled
        super().__init__(**kwargs)

    def load_data_list(self):
        rng = np.random.RandomState(0)
        items = []
        for i in range(self.num):
            label = i * CLASSES // self.num
            image = 60 + 50 * label + rng.randint(-50, 50, (8, 8, 3))
            item = dict(img=image.astype(np.uint8), sample_idx=i)
            if self.labelled:
                item['gt_label'] = label
            items.append(item)
        return items


def images(num=12, **kwargs):
    return dict(type='PlaneTestImages', num=num, pipeline=EVAL, **kwargs)


def plane(**kwargs):
    return {
        **dict(type='InformationPlaneHook', images=images(), batch_size=5),
        **kwargs,
    }


def build_runner(work_dir, hooks, epochs=2, **kwargs):
    register_all_modules(init_default_scope=True)
    config = dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            backbone=dict(
                type='ResNet_CIFAR',
                depth=18,
                stem_channels=4,
                base_channels=4,
                frozen_stages=4,
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(
                type='LinearClsHead', num_classes=CLASSES, in_channels=32
            ),
        ),
        data_preprocessor=dict(mean=[128.0] * 3, std=[64.0] * 3),
        train_dataloader=dict(
            batch_size=4,
            dataset=images(),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=hooks,
        randomness=dict(seed=4),
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        log_level='WARNING',
        **kwargs,
    )
    return Runner.from_cfg(Config(config))


def records(work_dir):
    lines = (work_dir / 'information_plane.json').read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_values_are_those_of_the_logits(tmp_path):
    runner = build_runner(tmp_path, [plane(num_samples=6, bins=4)])
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, InformationPlaneHook))
    found = hook.measure(runner, 6)
    runner.model.eval()
    data = [DATASETS.build(images())[i] for i in (0, 2, 4, 6, 8, 10)]
    labels = torch.tensor([int(d['data_samples'].gt_label) for d in data])
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    batch = runner.model.data_preprocessor(
        dict(inputs=[d['inputs'] for d in data])
    )
    with torch.no_grad():
        logits = runner.model(batch['inputs'])
    expected = mutual_information(logits.double().softmax(1), labels, 4)
    assert found == pytest.approx(expected)
    assert expected[0] > 0
    last = records(tmp_path)[-1]
    assert (last['i_xt'], last['i_ty']) == pytest.approx(expected)
    scalar = runner.message_hub.get_scalar('information/i_ty')
    assert scalar.current() == pytest.approx(expected[1])


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        (dict(), [0, 1, 2, 3]),  # the first epoch
        (dict(at_start=False, interval=2), [2]),
        (dict(epochs=None, interval=2), [0, 2, 4, 6]),
        (dict(epochs=4 / 3), [0, 1, 2, 3, 4]),
    ],
)
def test_schedule(tmp_path, arguments, expected):
    build_runner(tmp_path, [plane(**arguments)]).train()
    assert [r['iter'] for r in records(tmp_path)] == expected
    for record in records(tmp_path):
        assert record['epoch'] == pytest.approx(record['iter'] / 3, abs=1e-5)


def test_training_is_bit_identical_with_the_hook(tmp_path):
    plain = build_runner(tmp_path / 'plain', [])
    plain.train()
    watched = build_runner(tmp_path / 'watched', [plane(epochs=None)])
    watched.train()
    for key, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[key]), key


def test_resuming_continues_the_record(tmp_path):
    build_runner(tmp_path, [plane(epochs=None)], epochs=1).train()
    with open(tmp_path / 'information_plane.json', 'a') as file:
        file.write('{"iter": 9, "epoch": 3, "i_xt": 0, "i_ty": 0}\n{"iter"')
    runner = build_runner(tmp_path, [plane(epochs=None)], resume=True)
    runner.train()
    assert [r['iter'] for r in records(tmp_path)] == list(range(7))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(num_samples=0), 'num_samples=0'),
        (dict(bins=0), 'bins=0'),
        (dict(interval=0), 'interval=0'),
        (dict(epochs=0), 'epochs=0'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        InformationPlaneHook(images(), **arguments)


def test_bad_input(tmp_path):
    hook = plane(images=images(labelled=False))
    with pytest.raises(ValueError, match='PlaneTestImages.*gt_label'):
        build_runner(tmp_path / 'a', [hook]).train()
    runner = build_runner(tmp_path / 'b', [plane()])
    runner.model.head.num_classes = 5
    with pytest.raises(ValueError, match='width 3 are no logits of the 5'):
        runner.train()
