import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS

from mmssd.engine.hooks import deferred_scalars_hook
from mmssd.engine.hooks.deferred_scalars_hook import (
    DeferredMessageHub,
    ScalarHistory,
)


def as_lists(history):
    return [list(part) for part in history.data]


def same(ours, theirs):
    """Entries and types of two histories."""
    pairs = zip(ours.data, theirs.data, strict=True)
    return as_lists(ours) == as_lists(theirs) and all(
        a.dtype == b.dtype for a, b in pairs
    )


# --- histories --------------------------------------------------------------


@pytest.mark.parametrize('max_length', [3, 1000, 1_000_000])
def test_history_is_that_of_mmengine(max_length):
    rng = np.random.default_rng(0)
    theirs = HistoryBuffer(max_length=max_length)
    ours = ScalarHistory(max_length=max_length)
    for index in range(2500):
        value, count = float(rng.normal()), int(rng.integers(1, 4))
        theirs.update(value, count)
        ours.update(value, count)
        if index in (0, 2, 3, 1023, 1024, 1025, 2047, 2049, 2499):
            assert same(ours, theirs)
            for name in ('mean', 'min', 'max'):
                for window in (None, 1, 2, 50):
                    assert ours.statistics(name, window) == theirs.statistics(
                        name, window
                    )
            assert ours.current() == theirs.current()


def test_history_goes_on_from_another():
    ours = ScalarHistory([1, 2], [1, 3])
    ours.update(0.5, 2)
    assert as_lists(ours) == [[1, 2, 0.5], [1, 3, 2]]
    assert ours.mean() == 3.5 / 6
    with pytest.raises(TypeError, match="log_val='1'"):
        ours.update('1')
    with pytest.raises(TypeError, match='count=None'):
        ours.update(1, None)


def test_entries_are_copied_seldom(monkeypatch):
    """By eighths, where mmengine makes a copy for each entry."""
    made = []
    empty = np.empty
    monkeypatch.setattr(
        deferred_scalars_hook.np,
        'empty',
        lambda size, kind: made.append(size) or empty(size, kind),
    )
    ours = ScalarHistory()
    for index in range(20_000):
        ours.update(index)
    # once a thousand, then whenever an eighth is used up; of two columns
    thousands = [1024 * n for n in range(1, 9)]
    assert made[:16:2] == made[1:16:2] == thousands
    eighths = [size + size // 8 for size in made[16:-2:2]]
    assert made[18::2] == eighths and len(eighths) > 6
    made.clear()
    bounded = ScalarHistory(max_length=1000)
    for index in range(5000):
        bounded.update(index)
    # 1024, then room for as many again whenever it is used up
    assert made[::2] == [1024, *[2024] * 4]
    assert list(bounded.data[0]) == list(range(4000, 5000))


def test_integers_stay_until_a_float_comes():
    """mmengine's log prints them without a point."""
    theirs, ours = HistoryBuffer([7], [1]), ScalarHistory([7], [1])
    for value in (3, 5, 2.5, 1):
        theirs.update(value)
        ours.update(value)
        assert type(ours.current()) is type(theirs.current())
        assert same(ours, theirs)


def test_files_get_the_class_of_mmengine():
    ours = ScalarHistory([1.0, 2.0, 3.0], [1, 1, 1], max_length=2)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        plain = copy.deepcopy(ours)
    assert type(plain) is HistoryBuffer and plain.max_length == 2
    assert as_lists(plain) == [[2, 3], [1, 1]]
    assert not np.shares_memory(plain.data[0], ours._logs.memory)


# --- the hub ----------------------------------------------------------------


@pytest.fixture
def hub(request):
    hub = MessageHub.get_instance(request.node.name)
    DeferredMessageHub.adopt(hub)
    return hub


@pytest.fixture
def device(monkeypatch):
    """Tensors of a CPU stand for those of a device; count the transfers."""
    monkeypatch.setattr(
        deferred_scalars_hook,
        '_stays',
        lambda value: isinstance(value, torch.Tensor),
    )
    transfers = []
    bring = deferred_scalars_hook._transfer
    monkeypatch.setattr(
        deferred_scalars_hook,
        '_transfer',
        lambda values: transfers.append(len(values)) or bring(values),
    )
    return transfers


def test_adopted_in_place(hub):
    assert MessageHub.get_instance(hub.instance_name) is hub
    assert MessageHub.get_current_instance() is hub
    assert hub.get_current_instance() is hub
    hub.update_scalar('a', 1)
    DeferredMessageHub.adopt(hub)  # as in a second run
    assert as_lists(hub.get_scalar('a')) == [[1], [1]]


def test_a_hub_of_its_own():
    hub = DeferredMessageHub.get_instance('own')
    hub.update_scalar('a', 1)
    assert MessageHub.get_current_instance() is hub
    assert as_lists(hub.log_scalars['a']) == [[1], [1]]


def test_nothing_is_lost_where_a_transfer_fails(hub, device, monkeypatch):
    hub.update_scalar('a', torch.tensor(2.0))
    with monkeypatch.context() as patch:
        patch.setattr(deferred_scalars_hook, '_transfer', lambda values: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            hub.fetch()
    assert as_lists(hub.get_scalar('a')) == [[2], [1]]


def test_a_hub_of_another_class_is_left_alone():
    class Other(MessageHub):
        pass

    hub = Other.get_instance('other')
    DeferredMessageHub.adopt(hub)
    assert type(hub) is Other


def test_only_numbers_on_a_device_wait():
    assert not deferred_scalars_hook._stays(torch.zeros(()))
    assert deferred_scalars_hook._stays(torch.zeros((), device='meta'))
    assert not deferred_scalars_hook._stays(1.0)
    assert not deferred_scalars_hook._stays(np.float32(1))


def test_one_transfer_for_all_that_waits(hub, device, host_waits):
    plain = MessageHub.get_instance('plain')
    loss = torch.zeros(1)
    waits = []
    for index in range(5):
        loss.fill_(index / 3)  # the same tensor every time
        other, rows = torch.tensor(index * 0.1), torch.tensor(index)
        for each in (hub, plain):
            with host_waits() as watch:
                each.update_scalar('train/loss', loss, 2)
                each.update_scalar('train/other', other)
                each.update_scalar('train/time', index)
                each.update_scalar('train/lr', np.float64(index))
                each.update_scalar('train/rows', rows)
            waits.append(len(watch.found))
        # as mmengine's timer does in every iteration
        assert hub.get_scalar('train/time').current() == index
    assert waits == [0, 3] * 5
    assert device == []
    assert as_lists(hub.get_scalar('train/loss')) == as_lists(
        plain.get_scalar('train/loss')
    )
    assert device == [10, 5]  # floats and integers
    assert list(hub.log_scalars) == list(plain.log_scalars)
    for key, history in plain.log_scalars.items():
        assert same(hub.log_scalars[key], history)
    assert device == [10, 5]  # floats and integers


def test_order_is_kept_between_tensors_and_numbers(hub, device):
    hub.update_scalar('a', 1)
    hub.update_scalar('a', torch.tensor(2.0))
    hub.update_scalar('a', 3)
    hub.update_scalar('a', torch.tensor(4, dtype=torch.int64))
    assert as_lists(hub.log_scalars['a'])[0] == [1, 2, 3, 4]
    assert sorted(device) == [1, 1]  # of each type
    with pytest.raises(KeyError, match='missing'):
        hub.get_scalar('missing')


def test_numbers_do_not_pile_up_where_nobody_reads(hub, device):
    for _ in range(deferred_scalars_hook.MOST_WAITING + 1):
        hub.update_scalar('a', torch.zeros(()))
    assert device == [1000]
    assert len(hub._waiting['a']) == 1


def test_bad_numbers(hub):
    with pytest.raises(ValueError, match=r'a has shape \(2,\)'):
        hub.update_scalar('a', torch.zeros(2))
    with pytest.raises(TypeError, match='count=1.5 of a'):
        hub.update_scalar('a', 1, 1.5)
    hub.update_scalar('b', torch.zeros(()), resumed=False)
    with pytest.raises(AssertionError, match='b used to be False'):
        hub.update_scalar('b', torch.zeros(()))


def test_state_is_that_of_mmengine(hub, device):
    plain = MessageHub.get_instance('plain too')
    for each in (hub, plain):
        each.update_scalar('kept', torch.tensor(0.1))
        each.update_scalar('left', torch.tensor(0.2), resumed=False)
        each.update_info('iter', 3)
    state, expected = hub.state_dict(), plain.state_dict()
    assert state.keys() == expected.keys()
    assert state['runtime_info'] == expected['runtime_info']
    assert state['resumed_keys'] == expected['resumed_keys']
    assert state['log_scalars'].keys() == {'kept'}
    (history,) = state['log_scalars'].values()
    assert type(history) is HistoryBuffer
    assert b'mmssd' not in pickle.dumps(state)
    # and back, into either
    hub.load_state_dict(pickle.loads(pickle.dumps(state)))
    hub.update_scalar('kept', 2.0)
    assert as_lists(hub.get_scalar('kept')) == [
        [torch.tensor(0.1).item(), 2.0],
        [1, 1],
    ]


# --- a run ------------------------------------------------------------------


@DATASETS.register_module()
class ScalarsTestRows(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.full((3,), float(index))


@MODELS.register_module()
class ScalarsTestModel(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, inputs, mode='loss'):
        y = self.layer(torch.stack(inputs))
        return {'loss_y': (y**2).mean(), 'spread': y.std()}

    def train_step(self, data, optim_wrapper):
        return super().train_step(dict(inputs=data), optim_wrapper)


def train(work_dir, hooks, **kwargs):
    cfg = dict(
        default_scope='mmpretrain',
        model=dict(type='ScalarsTestModel'),
        train_dataloader=dict(
            batch_size=2,
            dataset=dict(type='ScalarsTestRows'),
            sampler=dict(type='InfiniteSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=False, max_iters=6),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-2)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=3),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=4),
        ),
        log_processor=dict(by_epoch=False),
        custom_hooks=hooks,
        work_dir=str(work_dir),
        experiment_name=f'scalars-{work_dir.name}',
        log_level='ERROR',
    )
    runner = Runner.from_cfg(Config({**cfg, **kwargs}))
    runner.train()
    return runner


def logged(runner):
    """Every history of a run, but for its times."""
    return {
        key: as_lists(history)
        for key, history in runner.message_hub.log_scalars.items()
        if 'time' not in key
    }


def test_a_run_logs_and_saves_the_same(tmp_path, device):
    hook = [dict(type='DeferredScalarsHook')]
    plain = train(tmp_path / 'plain', None)
    assert device == []
    deferred = train(tmp_path / 'deferred', hook)
    assert logged(deferred) == logged(plain)
    assert list(logged(deferred)) == list(logged(plain))
    assert logged(plain)['train/loss_y'][1] == [1] * 6
    # three numbers an iteration: for the logs at 2 (all rows were seen) and
    # 3, the file at 4, the log at 6
    assert device == [6, 3, 3, 6]
    states = [
        torch.load(path / 'iter_4.pth', weights_only=False)['message_hub']
        for path in (tmp_path / 'plain', tmp_path / 'deferred')
    ]
    for key, history in states[0]['log_scalars'].items():
        other = states[1]['log_scalars'][key]
        assert type(other) is HistoryBuffer
        if 'time' not in key:
            assert same(other, history)
    # a run goes on with or without the hook, whichever it began with
    for begun in ('deferred', 'plain'):
        for name, hooks in (('with', hook), ('without', None)):
            resumed = train(
                tmp_path / f'{begun}-{name}',
                hooks,
                load_from=str(tmp_path / begun / 'iter_4.pth'),
                resume=True,
            )
            assert logged(resumed) == logged(plain)
