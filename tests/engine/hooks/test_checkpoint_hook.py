import itertools
import random
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, METRICS, MODELS
from torch import nn

from mmssd.engine.hooks import checkpoint_hook
from mmssd.engine.hooks.checkpoint_hook import (
    AtomicCheckpointHook,
    get_random_state,
    set_random_state,
)
from mmssd.models.utils.checkpoint import load_checkpoint

RUNS = itertools.count()


@DATASETS.register_module()
class CheckpointTestRows(torch.utils.data.Dataset):
    """Rows with noise of all three generators."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        noise = [random.random(), np.random.rand(), torch.rand(()).item()]
        return torch.tensor([float(index), *noise])


@MODELS.register_module()
class CheckpointTestModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1)
        )

    def forward(self, inputs, mode='loss'):
        y = self.layers(torch.stack(inputs))
        if mode == 'predict':
            return list(torch.rand_like(y))  # disturbs the generator
        return {'loss': (y**2).mean()}

    def train_step(self, data, optim_wrapper):
        return super().train_step(dict(inputs=data), optim_wrapper)

    def val_step(self, data):
        return super().val_step(dict(inputs=data))


@METRICS.register_module()
class CheckpointTestMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(random.random())

    def compute_metrics(self, results):
        # falls, so that the first checkpoint stays the best
        return dict(score=1 / len(results))


@pytest.fixture(autouse=True)
def no_look_at_the_machine(monkeypatch):
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)


def build_runner(work_dir, length, by_epoch=True, hook=None, **kwargs):
    loader = dict(batch_size=2, dataset=dict(type='CheckpointTestRows'))
    kind = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    if by_epoch:
        train_cfg = dict(by_epoch=True, max_epochs=length)
    else:
        train_cfg = dict(by_epoch=False, max_iters=length, val_interval=3)
    config = dict(
        default_scope='mmpretrain',
        model=dict(type='CheckpointTestModel'),
        train_dataloader=dict(sampler=dict(type=kind, shuffle=True), **loader),
        train_cfg=train_cfg,
        val_dataloader=dict(
            sampler=dict(type='DefaultSampler', shuffle=False), **loader
        ),
        val_cfg=dict(),
        val_evaluator=dict(type='CheckpointTestMetric'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        default_hooks=dict(
            checkpoint={
                'type': 'AtomicCheckpointHook',
                'interval': 1,
                'by_epoch': by_epoch,
                **(hook or {}),
            }
        ),
        randomness=dict(seed=3),
        work_dir=str(work_dir),
        experiment_name=f'{work_dir.name}_{next(RUNS)}',
        log_level='ERROR',
        **kwargs,
    )
    return Runner.from_cfg(Config(config))


def checkpoints(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth*'))


def weights(path):
    return load_checkpoint(path)['state_dict']


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=0, atol=0)


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_random_state_round_trip(tmp_path):
    random.gauss(0, 1)
    np.random.randn()  # leaves a second number behind
    torch.save(get_random_state(), tmp_path / 'state.pth')
    wanted = draw(), random.gauss(0, 1), np.random.randn()
    draw()
    set_random_state(load_checkpoint(tmp_path / 'state.pth'))
    assert (draw(), random.gauss(0, 1), np.random.randn()) == wanted


@pytest.mark.parametrize(
    ('by_epoch', 'length', 'stop'), [(True, 3, 2), (False, 6, 2)]
)
def test_resumed_run_equals_uninterrupted_run(
    tmp_path, by_epoch, length, stop
):
    name = 'epoch' if by_epoch else 'iter'
    build_runner(tmp_path / 'whole', length, by_epoch).train()
    build_runner(tmp_path / 'parts', stop, by_epoch).train()
    draw()
    build_runner(tmp_path / 'parts', length, by_epoch, resume=True).train()

    for step in (stop, length):
        assert_same(
            weights(tmp_path / 'whole' / f'{name}_{step}.pth'),
            weights(tmp_path / 'parts' / f'{name}_{step}.pth'),
        )
    # the test can tell: with other numbers the weights differ
    set_random_state = checkpoint_hook.set_random_state
    try:
        checkpoint_hook.set_random_state = lambda state: None
        again = tmp_path / 'again'
        build_runner(again, stop, by_epoch).train()
        draw()
        build_runner(again, length, by_epoch, resume=True).train()
    finally:
        checkpoint_hook.set_random_state = set_random_state
    with pytest.raises(AssertionError):
        assert_same(
            weights(tmp_path / 'whole' / f'{name}_{length}.pth'),
            weights(again / f'{name}_{length}.pth'),
        )


def test_old_checkpoints_go_after_the_new_one_is_there(tmp_path, monkeypatch):
    runner = build_runner(tmp_path, 4, hook=dict(max_keep_ckpts=1))
    seen = []
    save = checkpoint_hook.AtomicLocalBackend.put

    def put(self, obj, filepath):
        seen.append(checkpoints(tmp_path))
        save(self, obj, filepath)

    monkeypatch.setattr(checkpoint_hook.AtomicLocalBackend, 'put', put)
    runner.train()
    assert seen == [[], ['epoch_1.pth'], ['epoch_2.pth'], ['epoch_3.pth']]
    assert checkpoints(tmp_path) == ['epoch_4.pth']


def test_keeps_as_many_as_asked_over_a_resume(tmp_path):
    hook = dict(max_keep_ckpts=2)
    build_runner(tmp_path, 3, hook=hook).train()
    assert checkpoints(tmp_path) == ['epoch_2.pth', 'epoch_3.pth']
    build_runner(tmp_path, 4, hook=hook, resume=True).train()
    assert checkpoints(tmp_path) == ['epoch_3.pth', 'epoch_4.pth']


@pytest.mark.parametrize('by_epoch', [True, False])
def test_some_stay_whatever_the_interval(tmp_path, by_epoch):
    name = 'epoch' if by_epoch else 'iter'

    def there():
        return [int(p.split('_')[1][:-4]) for p in checkpoints(tmp_path)]

    hook = dict(interval=2, max_keep_ckpts=1, keep=[2, 3])
    build_runner(tmp_path, 5, by_epoch, hook).train()
    # 2 and 3 by name, 4 was due and made way for the last one
    assert there() == [2, 3, 5]
    assert (tmp_path / 'last_checkpoint').read_text().endswith(f'{name}_5.pth')
    # what was to go stays, if a resumed run is told so
    hook['keep'] = [2, 5]
    build_runner(tmp_path, 7, by_epoch, hook, resume=True).train()
    assert there() == [2, 3, 5, 7]


@pytest.mark.parametrize('keep', [200, [0], ['last'], [1.5]])
def test_keep_is_a_list_of_epochs(keep):
    with pytest.raises(ValueError, match='keep=.*list of epochs'):
        AtomicCheckpointHook(keep=keep)


def test_killed_while_saving_leaves_the_previous_checkpoint(
    tmp_path, monkeypatch
):
    runner = build_runner(tmp_path, 3, hook=dict(max_keep_ckpts=1))
    calls = []

    def break_at_the_second(source, target):
        calls.append(source)
        if len(calls) == 2:
            # what a kill leaves: the file is written, not yet renamed
            (tmp_path / 'epoch_9.pth.unfinished').write_bytes(b'half')
            raise KeyboardInterrupt
        source.rename(target)

    monkeypatch.setattr(checkpoint_hook.os, 'replace', break_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert 'epoch_1.pth' in checkpoints(tmp_path)
    assert 'epoch_2.pth' not in checkpoints(tmp_path)
    last = (tmp_path / 'last_checkpoint').read_text()
    assert last == str(tmp_path / 'epoch_1.pth')
    assert load_checkpoint(last)['meta']['epoch'] == 1
    monkeypatch.undo()

    resumed = build_runner(
        tmp_path, 3, hook=dict(max_keep_ckpts=1), resume=True
    )
    resumed.train()
    assert checkpoints(tmp_path) == ['epoch_3.pth']


def test_a_failing_write_leaves_no_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError('No space left on device')

    monkeypatch.setattr(checkpoint_hook.os, 'fsync', full)
    target = tmp_path / 'a.pth'
    target.write_bytes(b'old')
    with pytest.raises(OSError, match='No space'):
        checkpoint_hook.AtomicLocalBackend().put(b'new', target)
    assert checkpoints(tmp_path) == ['a.pth']
    assert target.read_bytes() == b'old'


def test_best_checkpoint_is_saved_too(tmp_path):
    build_runner(
        tmp_path, 2, hook=dict(save_best='score', rule='greater')
    ).train()
    assert 'best_score_epoch_1.pth' in checkpoints(tmp_path)
    load_checkpoint(tmp_path / 'best_score_epoch_1.pth')


def test_other_number_of_processes_warns(tmp_path, monkeypatch):
    build_runner(tmp_path, 1).train()
    runner = build_runner(tmp_path, 2, resume=True)
    warnings = []
    monkeypatch.setattr(runner.logger, 'warning', warnings.append)
    hook = AtomicCheckpointHook()
    states = dict(random_states=[get_random_state()] * 2)
    hook.after_load_checkpoint(runner, states)
    assert 'of 2 process(es), this run has 1' in warnings[0]
    assert hook._to_restore is None


def test_workers_of_a_resumed_run_draw_other_numbers(tmp_path):
    build_runner(tmp_path, 1).train()
    runner = build_runner(tmp_path, 2, resume=True)
    seeds = []

    def train_epoch():
        loader = runner.train_loop.dataloader
        assert isinstance(loader.worker_init_fn, partial)
        seeds.append(loader.worker_init_fn.keywords['seed'])
        runner.train_loop._epoch += 1

    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.train_loop.run_epoch = train_epoch
    runner._val_loop = None
    runner.train()
    assert seeds == [(3 + 1_000_003 * 4) % 2**31]


def test_storage_of_the_user_is_left_alone():
    assert AtomicCheckpointHook().backend_args == dict(backend='mmssd_atomic')
    own = dict(backend='local')
    assert AtomicCheckpointHook(backend_args=own).backend_args == own
    remote = AtomicCheckpointHook(out_dir='s3://bucket/runs')
    assert remote.backend_args is None
