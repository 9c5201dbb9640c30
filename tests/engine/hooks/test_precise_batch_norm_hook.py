"""Statistics of batch norms against those of the batches."""

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS
from torch import nn

from mmssd.engine.hooks import PreciseBatchNormHook

ROWS = torch.tensor([[0.0], [2.0], [10.0], [30.0], [7.0], [8.0]])


class Toy(BaseModel):
    """Remembers how it was called."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(1, momentum=0.1)
        self.fixed = nn.BatchNorm1d(1)
        self.modes = []

    def train(self, mode=True):
        super().train(mode)
        self.fixed.eval()
        return self

    def forward(self, inputs, mode='tensor'):
        self.modes.append((mode, torch.is_grad_enabled()))
        x = self.fixed(self.bn(torch.stack(list(inputs))))
        return dict(loss=x.square().mean()) if mode == 'loss' else x


@pytest.mark.parametrize('by_epoch', [True, False])
def test_averages_over_batches(tmp_path, by_epoch):
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=[dict(inputs=row) for row in ROWS],
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )
    steps = dict(max_epochs=1) if by_epoch else dict(max_iters=3)
    runner = Runner(
        Toy(),
        str(tmp_path),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=by_epoch, **steps),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', by_epoch=by_epoch, interval=1
            )
        ),
        custom_hooks=[dict(type='mmpretrain.PreciseBatchNormHook')],
        experiment_name=f'precise-{by_epoch}',
    )
    model = runner.train()
    # means 1, 20, 7.5; variances of two values 2, 200, 0.5
    mean, variance = 28.5 / 3, 202.5 / 3
    assert model.bn.running_mean.item() == pytest.approx(mean)
    assert model.bn.running_var.item() == pytest.approx(variance)
    assert model.bn.momentum == 0.1
    assert model.fixed.running_mean.item() == 0
    # three steps, then all batches once, as in training but without gradient
    assert model.modes == [('loss', True)] * 3 + [('loss', False)] * 3
    name = 'epoch_1' if by_epoch else 'iter_3'
    saved = torch.load(tmp_path / f'{name}.pth', weights_only=False)
    assert saved['state_dict']['bn.running_var'].item() == (
        pytest.approx(variance)
    )


def test_from_another_scope_and_errors():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        hook = HOOKS.build(dict(type='PreciseBatchNormHook', num_batches=3))
    assert hook.num_batches == 3
    with pytest.raises(ValueError, match='num_batches=0'):
        PreciseBatchNormHook(0)
