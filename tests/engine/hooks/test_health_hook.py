import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS
from torch import nn

from mmssd.engine.hooks import health_hook
from mmssd.engine.hooks.health_hook import (
    HealthHook,
    check_schedule,
    check_shares,
    count_views,
)
from mmssd.models.utils.feature_queue import FeatureQueue
from mmssd.models.utils.plan import SetupError

NAN, INF = float('nan'), float('inf')


class PoisonGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, value):
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.full_like(grad, ctx.value), None


@DATASETS.register_module()
class HealthTestRows(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((3,), float(index))


@MODELS.register_module()
class HealthTestModel(BaseModel):
    """Two layers; something breaks in the forward pass number ``at``."""

    def __init__(self, what=None, at=3, value=NAN, extra=False, width=2):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3, width)
        self.second = nn.Linear(width, 1)
        self.register_buffer('memory', torch.zeros(2))
        if extra:
            self.extra = nn.Linear(1, 1)
        self.what, self.at, self.value, self.calls = what, at, value, 0

    def forward(self, inputs, mode='loss'):
        self.calls += 1
        what = self.what if self.calls == self.at else None
        weight = self.second.weight
        if what == 'gradient':
            weight = PoisonGradient.apply(weight, self.value)
        if what == 'buffer':
            self.memory[1] = self.value
        hidden = self.first(torch.stack(inputs)).tanh()
        y = nn.functional.linear(hidden, weight, self.second.bias)
        main = (y**2).mean()
        if what == 'loss':
            main = main * self.value
        return {
            'a.loss_main': main,
            'b.loss_side': hidden.mean() ** 2,
            'diagnostic': torch.tensor(NAN),
        }

    def train_step(self, data, optim_wrapper):
        return super().train_step(dict(inputs=data), optim_wrapper)


def build_runner(
    work_dir, model=None, hook=None, epochs=None, val=False, **kwargs
):
    by_epoch = epochs is not None
    train_cfg = dict(by_epoch=True, max_epochs=epochs)
    if not by_epoch:
        train_cfg = dict(by_epoch=False, max_iters=6)
    if val:
        train_cfg['val_interval'] = 2
        kwargs.update(
            val_dataloader=dict(
                batch_size=2,
                dataset=dict(type='HealthTestRows'),
                sampler=dict(type='DefaultSampler', shuffle=False),
            ),
            val_cfg=dict(),
            val_evaluator=dict(type='Accuracy'),
        )
    config = dict(
        default_scope='mmpretrain',
        model=dict(type='HealthTestModel', **(model or {})),
        train_dataloader=dict(
            batch_size=2,
            dataset=dict(type='HealthTestRows'),
            sampler=dict(
                type='InfiniteSampler' if not by_epoch else 'DefaultSampler',
                shuffle=False,
            ),
        ),
        train_cfg=train_cfg,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-3, momentum=0.9)),
        default_hooks=dict(
            checkpoint={
                **dict(type='CheckpointHook', by_epoch=by_epoch),
                **dict(max_keep_ckpts=1, interval=1),
                **kwargs.pop('checkpoint', {}),
            },
        ),
        custom_hooks=[dict(type='HealthHook', **(hook or {}))],
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        log_level='ERROR',
        **kwargs,
    )
    return Runner.from_cfg(Config(config))


def checkpoints(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth'))


def assert_finite(path):
    state = torch.load(path, weights_only=False)
    for name, value in state['state_dict'].items():
        assert value.isfinite().all(), name


@pytest.mark.parametrize('value', [NAN, INF, -INF])
def test_loss_stops_the_run_and_the_last_checkpoint_stays(tmp_path, value):
    runner = build_runner(tmp_path, dict(what='loss', value=value))
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    message = str(error.value)
    assert message.startswith(f'iteration 3: loss a.loss_main = {value}. ')
    assert str(tmp_path / 'iter_2.pth') in message
    assert checkpoints(tmp_path) == ['iter_2.pth']
    assert_finite(tmp_path / 'iter_2.pth')


@pytest.mark.parametrize('value', [NAN, INF])
def test_gradient_under_a_finite_loss(tmp_path, value):
    runner = build_runner(tmp_path, dict(what='gradient', value=value))
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    message = str(error.value)
    assert message.startswith('iteration 3: a gradient was not finite')
    assert '1 parameter(s), second.weight. ' in message
    assert checkpoints(tmp_path) == ['iter_2.pth']
    assert_finite(tmp_path / 'iter_2.pth')


def test_parameters_are_checked_when_a_checkpoint_is_due(tmp_path):
    runner = build_runner(
        tmp_path,
        dict(what='gradient', at=2),
        dict(interval=100),
    )
    with pytest.raises(FloatingPointError, match='iteration 2: a gradient'):
        runner.train()
    assert checkpoints(tmp_path) == ['iter_1.pth']


def test_epoch_checkpoints(tmp_path):
    runner = build_runner(  # 4 iterations an epoch
        tmp_path,
        dict(what='gradient', at=8),
        dict(interval=100),
        epochs=3,
    )
    with pytest.raises(FloatingPointError, match='iteration 8: a gradient'):
        runner.train()
    assert checkpoints(tmp_path) == ['epoch_1.pth']
    assert_finite(tmp_path / 'epoch_1.pth')


@pytest.mark.parametrize('epochs', [None, 1])
def test_buffers_are_checked_when_a_checkpoint_is_due(tmp_path, epochs):
    model = dict(what='buffer', at=3)
    runner = build_runner(tmp_path, model, epochs=epochs)
    iteration = 4 if epochs else 3
    with pytest.raises(
        FloatingPointError,
        match=rf'iteration {iteration}: NaN in 1 buffer\(s\), memory',
    ):
        runner.train()
    assert checkpoints(tmp_path) == ([] if epochs else ['iter_2.pth'])


@pytest.mark.parametrize('where', ['model', 'optimizer'])
def test_nan_is_never_written(tmp_path, where):
    runner = build_runner(tmp_path)
    runner.train()
    if where == 'model':
        runner.model.memory[0] = NAN
        name = 'memory'
    else:
        state = runner.optim_wrapper.optimizer.state
        state[runner.model.first.bias]['momentum_buffer'][0] = NAN
        name = r'state\.1\.momentum_buffer'
    with pytest.raises(
        FloatingPointError, match=f'iteration 7: .* holds NaN in {name};'
    ):
        runner.save_checkpoint(str(tmp_path), 'now.pth', by_epoch=False)
    assert checkpoints(tmp_path) == ['iter_6.pth']


@pytest.mark.parametrize(
    ('interval', 'every', 'expected'),
    [
        # two losses and their sum, a norm, a buffer; at the end the last two
        (1, 1, [5, 5, 5, 5, 5, 5, 2]),
        # the norm every third time, the buffer before the checkpoint
        (3, 6, [3, 3, 4, 3, 3, 5, 2]),
    ],
)
def test_healthy_run(tmp_path, monkeypatch, interval, every, expected):
    runner = build_runner(
        tmp_path,
        hook=dict(interval=interval),
        checkpoint=dict(interval=every),
    )
    round_trips = []
    check = health_hook._all_finite
    monkeypatch.setattr(
        health_hook,
        '_all_finite',
        lambda values: round_trips.append(len(values)) or check(values),
    )
    runner.train()  # 'diagnostic' is NaN all along, which is no loss
    assert checkpoints(tmp_path) == ['iter_6.pth']
    assert round_trips == expected


@pytest.mark.parametrize(
    ('what', 'at', 'look_every', 'seen', 'message'),
    [
        ('loss', 3, 4, 4, r'iteration 3: loss a.loss_main = nan\. No check'),
        # from the fourth iteration on the losses are NaN as well
        ('gradient', 3, 5, 5, 'iteration 3: a gradient .*as of iteration 5'),
        ('gradient', 4, 4, 4, r'iteration 4: .* second\.weight\. No check'),
        # the end of the training is looked at
        ('loss', 2, 100, 6, 'iteration 2: loss'),
        ('gradient', 6, 100, 6, r'iteration 6: .* second\.weight\. No check'),
    ],
)
def test_what_waits_is_named_by_its_iteration(
    tmp_path, what, at, look_every, seen, message
):
    runner = build_runner(
        tmp_path,
        dict(what=what, at=at),
        dict(look_every=look_every),
        checkpoint=dict(interval=100, save_last=False),
    )
    with pytest.raises(FloatingPointError, match=message):
        runner.train()
    assert runner.model.calls == seen
    assert not checkpoints(tmp_path)


def test_what_waits_is_looked_at_before_a_checkpoint(tmp_path):
    runner = build_runner(
        tmp_path,
        dict(what='loss', at=3),
        dict(look_every=100),
        checkpoint=dict(interval=2),
    )
    with pytest.raises(FloatingPointError, match='iteration 3: loss'):
        runner.train()
    assert runner.model.calls == 4
    assert checkpoints(tmp_path) == ['iter_2.pth']


def test_what_waits_is_looked_at_after_an_epoch(tmp_path):
    runner = build_runner(  # 4 iterations an epoch
        tmp_path,
        dict(what='loss', at=6),
        dict(look_every=100),
        epochs=3,
    )
    with pytest.raises(FloatingPointError, match='iteration 6: loss'):
        runner.train()
    assert runner.model.calls == 8
    assert checkpoints(tmp_path) == ['epoch_1.pth']


def test_nothing_is_read_before_a_look(tmp_path, host_waits):
    runner = build_runner(
        tmp_path, checkpoint=dict(interval=100, save_last=False)
    )
    runner.train()
    hook = HealthHook(look_every=3)
    runner.train_loop._iter, runner.train_loop._max_iters = 0, 100
    found = []
    for _ in range(3):
        with host_waits() as watch:
            hook.after_train_iter(runner, 0, None, {'loss': torch.zeros(())})
        found.append(len(watch.found))
    assert found[:2] == [0, 0] and found[2] > 0


def test_a_gpu_is_asked_now_and_then(tmp_path, monkeypatch):
    def looks(**hook):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        runner = build_runner(
            folder, hook=hook, checkpoint=dict(interval=100, save_last=False)
        )
        found = []
        check = health_hook._all_finite
        with monkeypatch.context() as patch:
            patch.setattr(
                health_hook,
                '_all_finite',
                lambda values: found.append(len(values)) or check(values),
            )
            runner.train()
        return found

    # three losses and a norm an iteration; at the end norm and buffer
    assert looks() == [4] * 6 + [2]
    assert looks(look_every=4) == [16, 8, 2]
    here, there = torch.zeros(()), torch.zeros((), device='meta')
    for losses, state, expected in (
        ([here], [here], 1),
        ([here], [there], 20),
        ([there], [], 20),
        ([], [], 1),
    ):
        hook = HealthHook()
        hook._note(1, dict(enumerate(losses)), state)
        assert hook._patience() == expected
    hook = HealthHook(look_every=3)
    hook._note(1, {}, [there])
    assert hook._patience() == 3


def test_what_waits_is_a_copy(tmp_path):
    """A model may return the same tensor in every iteration."""
    runner = build_runner(
        tmp_path,
        dict(what='loss', at=2),
        dict(look_every=4),
        checkpoint=dict(interval=100, save_last=False),
    )
    train_step, same = runner.model.train_step, torch.zeros(())

    def reuse(*args, **kwargs):
        logs = train_step(*args, **kwargs)
        return {'a.loss_main': same.copy_(logs['a.loss_main'])}

    runner.model.train_step = reuse
    with pytest.raises(
        FloatingPointError, match=r'iteration 2: loss a\.loss_main = nan'
    ):
        runner.train()
    assert runner.model.calls == 4


def test_a_checkpoint_to_keep_is_looked_at_before(tmp_path):
    runner = build_runner(
        tmp_path,
        dict(what='loss', at=3),
        dict(look_every=100),
        checkpoint=dict(
            type='AtomicCheckpointHook', interval=100, keep=[2, 4]
        ),
    )
    with pytest.raises(FloatingPointError, match='iteration 3: loss'):
        runner.train()
    assert runner.model.calls == 4
    assert checkpoints(tmp_path) == ['iter_2.pth']


def test_a_validation_is_looked_at_before(tmp_path):
    """It may save the best checkpoint, and deletes the one before it."""
    runner = build_runner(
        tmp_path,
        dict(what='loss', at=3),
        dict(look_every=100),
        checkpoint=dict(interval=100, save_last=False),
        val=True,
    )
    judged = []
    runner.val_loop.run = lambda: (
        runner.call_hook('before_val') or (judged.append(runner.iter))
    )
    with pytest.raises(FloatingPointError, match='iteration 3: loss'):
        runner.train()
    assert judged == [2]
    assert runner.model.calls == 4


def test_nothing_is_looked_at_after_a_training(tmp_path):
    runner = build_runner(tmp_path)
    runner.train()
    runner.model.first.weight.data.fill_(NAN)
    runner.call_hook('before_val')


def test_a_probe_is_looked_at_before(tmp_path):
    class Probe(Hook):
        def due(self, runner):
            return self.every_n_train_iters(runner, 4)

    runner = build_runner(
        tmp_path,
        dict(what='loss', at=3),
        dict(look_every=100),
        checkpoint=dict(interval=100, save_last=False),
    )
    runner.register_hook(Probe())
    with pytest.raises(FloatingPointError, match='iteration 3: loss'):
        runner.train()
    assert runner.model.calls == 4


def test_infinite_weights_are_never_written(tmp_path):
    runner = build_runner(tmp_path)
    runner.train()
    runner.model.second.bias.data.fill_(INF)
    runner.model.memory[0] = INF  # as a mask may hold
    with pytest.raises(
        FloatingPointError, match=r'holds infinity in second\.bias;'
    ):
        runner.save_checkpoint(str(tmp_path), 'now.pth', by_epoch=False)
    assert checkpoints(tmp_path) == ['iter_6.pth']


def test_numbers_of_several_devices_meet():
    meta = torch.zeros((), device='meta')
    here = health_hook._together([torch.tensor(1.0), torch.tensor([2])])
    assert here.tolist() == [1, 2]
    assert health_hook._together([torch.tensor(1.0), meta]).is_meta


def test_large_finite_parameters_are_no_alarm(tmp_path):
    runner = build_runner(tmp_path)
    with torch.no_grad():
        runner.model.first.bias.fill_(1e30)  # its square overflows
    runner.train()


def test_priority_after_the_checkpoint_is_refused(tmp_path):
    runner = build_runner(tmp_path, hook=dict(priority='LOWEST'))
    with pytest.raises(ValueError, match='priority=LOWEST of HealthHook'):
        runner.train()
    with pytest.raises(ValueError, match='interval=0'):
        HealthHook(interval=0)
    with pytest.raises(ValueError, match='look_every=0'):
        HealthHook(look_every=0)


def trained(tmp_path, **model):
    folder = tmp_path / 'old'
    build_runner(folder, model).train()
    return str(folder / 'iter_6.pth')


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ({}, dict(extra=True), '2 missing: extra.weight, extra.bias'),
        (dict(extra=True), {}, '2 unexpected: extra.weight, extra.bias'),
        (
            dict(width=5),
            {},
            r'3 of another shape: size mismatch for first.weight',
        ),
    ],
)
def test_resume_is_strict(tmp_path, old, new, message):
    path = trained(tmp_path, **old)
    runner = build_runner(tmp_path / 'new', new, load_from=path, resume=True)
    with pytest.raises(ValueError, match=message) as error:
        runner.train()
    assert path in str(error.value)
    assert not checkpoints(tmp_path / 'new')


def test_modules_have_their_say_on_resuming(tmp_path):
    path = trained(tmp_path)
    runner = build_runner(tmp_path / 'new', load_from=path, resume=True)

    # as a frozen teacher that is saved by reference
    class Referring(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.register_state_dict_post_hook(self.leave_out)
            self.register_load_state_dict_post_hook(
                lambda _, keys: keys.missing_keys.clear()
            )

        @staticmethod
        def leave_out(module, state, prefix, _):
            del state[prefix + 'weight']

    runner.model.other = Referring()
    runner.model.norm = nn.BatchNorm1d(1)
    state = torch.load(path, weights_only=False)
    for key, value in runner.model.norm.state_dict().items():
        if key != 'num_batches_tracked':  # as in old files
            state['state_dict'][f'norm.{key}'] = value
    torch.save(state, path)
    runner._train_loop.update(max_iters=7)
    with pytest.raises(ValueError, match='parameter group'):
        runner.train()  # the optimizer's turn: the model was accepted


def test_resume_of_the_same_model_and_load_from(tmp_path):
    path = trained(tmp_path)
    train_cfg = dict(by_epoch=False, max_iters=8)
    runner = build_runner(tmp_path / 'new', load_from=path, resume=True)
    runner._train_loop.update(train_cfg)
    runner.train()
    assert checkpoints(tmp_path / 'new') == ['iter_8.pth']
    # weights alone may be partial
    runner = build_runner(tmp_path / 'other', dict(extra=True), load_from=path)
    runner.train()
    # and the check can be turned off
    runner = build_runner(
        tmp_path / 'lax',
        dict(extra=True),
        dict(strict_resume=False),
        load_from=path,
        resume=True,
    )
    with pytest.raises(ValueError, match="doesn't match the size"):
        runner.train()  # mmengine gets as far as the optimizer


# --- before the training ----------------------------------------------------


def test_data_of_less_than_a_batch(tmp_path):
    runner = build_runner(tmp_path, epochs=1)
    runner._train_dataloader.update(batch_size=9, drop_last=True)
    with pytest.raises(SetupError, match=r'8 image\(s\) make no batch of 9'):
        runner.train()
    # an endless sampler goes round
    runner = build_runner(tmp_path / 'endless')
    runner._train_dataloader.update(batch_size=9, drop_last=True)
    runner.train()


@pytest.mark.parametrize(
    ('images', 'batch', 'drop_last', 'batches'),
    [
        (7, 2, False, None),  # shares of 4 and 3: two batches each
        (7, 2, True, '2 or 1 batches of 2'),
        (5, 1, False, '3 or 2 batches of 1'),
        (1, 4, False, '1 or 0 batches of 4'),
        (8, 3, True, None),
    ],
)
def test_shares_that_leave_a_process_empty(images, batch, drop_last, batches):
    if batches is None:
        check_shares(images, batch, 2, drop_last)
        return
    with pytest.raises(SetupError, match=f'{images} images.*{batches}'):
        check_shares(images, batch, 2, drop_last)


def test_shares_are_checked_before_the_training(tmp_path, monkeypatch):
    runner = build_runner(tmp_path, epochs=1)
    runner._train_dataloader.update(
        batch_size=3, sampler=dict(type='DefaultSampler', round_up=False)
    )
    monkeypatch.setattr(health_hook, 'get_world_size', lambda: 3)
    # shares of 3, 3 and 2: one batch each
    runner.train()
    runner = build_runner(tmp_path / 'b', epochs=1)
    runner._train_dataloader.update(
        batch_size=1, sampler=dict(type='DefaultSampler', round_up=False)
    )
    with pytest.raises(SetupError, match='set sampler.round_up=True'):
        runner.train()


@pytest.mark.parametrize(
    ('epochs', 'batch', 'drop_last', 'length'),
    [(2, 3, True, 2), (2, 3, False, 3), (None, 3, True, 2)],
)
def test_plan_by_hand(tmp_path, epochs, batch, drop_last, length):
    runner = build_runner(tmp_path, epochs=epochs)
    runner._train_dataloader.update(batch_size=batch, drop_last=drop_last)
    plans = []
    runner.model.heads = nn.ModuleDict()
    runner.model.check = plans.append
    runner.train()
    (plan,) = plans
    assert (plan.batch, plan.epoch_length) == (batch, length)
    assert plan.max_iters == (6 if epochs is None else epochs * length)
    assert plan.accumulation == 1 and plan.num_views is None


def test_accumulation_is_told(tmp_path, monkeypatch):
    runner = build_runner(tmp_path)
    runner.optim_wrapper['accumulative_counts'] = 2
    runner.model.heads = nn.ModuleDict()
    runner.model.check = lambda plan: None
    said = []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert any('gradients of 2 steps are added up' in str(s) for s in said)


def cosine(end, begin=0, by_epoch=True, **kwargs):
    return dict(
        type='CosineAnnealingLR',
        by_epoch=by_epoch,
        begin=begin,
        end=end,
        **{'T_max': end - begin, **kwargs},
    )


WARM_UP = dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=2)
CONVERTED = dict(convert_to_iter_based=True)
STEPS = dict(type='MultiStepLR', by_epoch=True, milestones=[1])


# 4 iterations an epoch; 3 epochs, or 6 iterations
@pytest.mark.parametrize(
    ('epochs', 'schedulers', 'said'),
    [
        (3, [cosine(3)], None),
        (3, [cosine(3, **CONVERTED)], None),
        (3, [WARM_UP, cosine(12, 2, by_epoch=False)], None),
        (None, [cosine(6, by_epoch=False)], None),
        (3, [WARM_UP], None),
        (3, [STEPS], None),
        (3, [dict(STEPS, end=10**9)], None),
        (3, [cosine(2), dict(STEPS, end=10**9)], None),
        (3, None, None),
        (
            3,
            [cosine(8, **CONVERTED)],
            r'param_scheduler\.0 \(CosineAnnealingLR\) ends at epoch\(s\) 8, '
            r'the training at 3: .* set param_scheduler\.0\.end=3 '
            r'param_scheduler\.0\.T_max=3$',
        ),
        (
            3,
            [WARM_UP, cosine(2, 1)],
            r'param_scheduler\.1 .* ends at epoch\(s\) 2, the training at 3: '
            r'.* set param_scheduler\.1\.end=3 param_scheduler\.1\.T_max=2$',
        ),
        # half of a cosine: its end is that of the training
        (
            3,
            cosine(3, T_max=6),
            r'param_scheduler \(.* epoch\(s\) 6, the training at 3: .* set '
            r'param_scheduler\.end=3 param_scheduler\.T_max=3$',
        ),
        (
            None,
            [cosine(9, by_epoch=False)],
            r'ends at iteration\(s\) 9, the training at 6: .*\.T_max=6$',
        ),
        (
            3,
            [dict(STEPS, end=2)],
            r'\(MultiStepLR\) ends at epoch\(s\) 2, .* set '
            r'param_scheduler\.0\.end=3$',
        ),
    ],
)
def test_a_schedule_of_another_length_is_told(
    tmp_path, monkeypatch, epochs, schedulers, said
):
    runner = build_runner(tmp_path, epochs=epochs, param_scheduler=schedulers)
    warnings = []
    monkeypatch.setattr(runner.logger, 'warning', warnings.append)
    runner.train()
    warnings = [str(w) for w in warnings if ' ends at ' in str(w)]
    if said is None:
        assert not warnings
    else:
        (warning,) = warnings
        assert re.search(said, warning), warning


def test_a_resumed_run_keeps_its_schedule(tmp_path):
    scheduler = [cosine(2, **CONVERTED)]
    runner = build_runner(tmp_path, epochs=2, param_scheduler=scheduler)
    runner.train()
    assert check_schedule(runner) is None
    runner = build_runner(
        tmp_path / 'longer',
        epochs=3,
        param_scheduler=[cosine(3, **CONVERTED)],
        load_from=str(tmp_path / 'epoch_2.pth'),
        resume=True,
    )
    runner.train()
    said = check_schedule(runner)
    assert 'ends at epoch(s) 2, the training at 3' in said
    assert 'keeps the schedule of its checkpoint; for another' in said
    assert said.endswith('.end=3 param_scheduler.0.T_max=3')


@pytest.mark.parametrize(
    ('pipeline', 'expected'),
    [
        ([], None),
        ([dict(type='PackInputs')], 1),
        (
            [
                dict(
                    type='MultiView',
                    num_views=[2, 3],
                    transforms=[[dict(type='RandomFlip', prob=0.5)]] * 2,
                ),
                dict(type='PackInputs'),
            ],
            5,
        ),
    ],
)
def test_views_of_a_pipeline(pipeline, expected):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = SimpleNamespace(pipeline=Compose(pipeline))
    runner = SimpleNamespace(
        model=nn.Identity(),
        train_dataloader=SimpleNamespace(
            dataset=SimpleNamespace(dataset=dataset)
        ),
    )
    assert count_views(runner) == expected


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), path)
    runner = build_runner(tmp_path / 'new', load_from=str(path))
    with pytest.raises(ValueError, match='not one of its keys is of the mod'):
        runner.train()


def test_a_new_training_starts_with_its_own_queue(tmp_path):
    runner = build_runner(tmp_path / 'old')
    runner.model.queue = FeatureQueue(3, 4)
    runner.model.queue.enqueue(torch.ones(2, 3))
    runner.train()
    path = str(tmp_path / 'old' / 'iter_6.pth')
    weight = runner.model.first.weight.detach().clone()
    for resume in (False, True):
        runner = build_runner(
            tmp_path / f'new{resume}', load_from=path, resume=resume
        )
        runner.model.queue = FeatureQueue(3, 4, init='zeros')
        runner.load_or_resume() if not resume else runner.resume(path)
        assert int(runner.model.queue.pointer) == (2 if resume else 0)
        torch.testing.assert_close(runner.model.first.weight, weight)
