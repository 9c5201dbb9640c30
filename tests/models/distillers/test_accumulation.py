"""Gradients of small steps that add up to those of a large one."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.utils import FeatureQueue
from mmssd.models.utils.progress import ends_update

D, BATCH = 5, 6


class Backbone(BaseModule):
    """Two layers without batch norm: rows do not meet."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 7, 3, stride=2, padding=1)

    def forward(self, x):
        return (self.last(self.stem(x).tanh()).tanh(),)


class Neck(BaseModule):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(7, D)

    def forward(self, x):
        return (self.linear(x[-1].flatten(1)),)


class Images(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        views = torch.randn(2, 3, 6, 6, generator=generator)
        return dict(inputs=list(views), data_samples=index)


SEED = dict(type='SimilarityQueueHead', embed_dim=D, queue_length=10)
COMPRESS = dict(
    type='SimilarityQueueHead',
    objective='compress',
    embed_dim=7,
    student_dim=7,
    queue_length=10,
    student_queue='momentum',
)
DISCO = dict(type='EmbeddingHead', weight=3.0)
CONTRAST = dict(type='MomentumContrastHead', embed_dim=D, queue_length=10)
# as long as the keys of an update, whose order differs
SYMMETRIC = dict(CONTRAST, symmetric=True, queue_length=2 * BATCH)
METHODS = dict(
    seed=dict(heads=dict(similarity=SEED)),
    compress=dict(heads=dict(similarity=COMPRESS), neck=None, momentum=0.8),
    disco=dict(heads=dict(a=DISCO, b=CONTRAST), momentum=0.8),
    moco=dict(heads=dict(b=SYMMETRIC), momentum=0.8),
)


def train(folder, method, counts, updates=4):
    """State after some updates of ``BATCH`` images each."""
    settings = METHODS[method]
    torch.manual_seed(0)
    neck = Neck() if settings.get('neck', True) else None
    teacher = None
    if method != 'moco':
        teacher = Teacher(
            Backbone(), None if neck is None else Neck(), checkpoint='given'
        )
    model = Distiller(
        Backbone(),
        neck,
        heads={k: dict(v) for k, v in settings['heads'].items()},
        teacher=teacher,
        momentum=settings.get('momentum'),
        num_global=2,
    )
    for head in model.heads.values():
        for module in head.modules():
            if isinstance(module, FeatureQueue):
                rows = torch.randn(module.features.shape)
                module.features.copy_(nn.functional.normalize(rows, dim=1))
    for module in model.modules():
        module._is_init = True
    if model.momentum is not None:
        model.momentum.copy_from(model)
    Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Images(),
            batch_size=BATCH // counts,
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=updates * counts),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.3, momentum=0.9),
            accumulative_counts=counts,
        ),
        custom_hooks=[dict(type='HealthHook')],
        default_hooks=dict(checkpoint=None, logger=None),
        log_level='ERROR',
        default_scope='mmpretrain',
        experiment_name=f'{method}_{counts}',
    ).train()
    return model.state_dict()


@pytest.mark.parametrize('method', METHODS)
def test_same_update_as_the_large_batch(tmp_path, method):
    """Weights, momentum student and queues, to rounding.

    A temperature of 0.04 and four updates make it up to 1e-5.
    """
    large = train(tmp_path, method, 1)
    small = train(tmp_path, method, 3)
    assert any(key.endswith('queue.features') for key in large)
    for key, value in large.items():
        found = small[key]
        if method == 'moco' and key.endswith('features'):
            value, found = (
                rows[rows[:, 0].argsort()] for rows in (value, found)
            )
        torch.testing.assert_close(found, value, rtol=1e-4, atol=2e-5, msg=key)
    start = train(tmp_path, method, 1, updates=1)
    assert not torch.allclose(
        start['backbone.stem.weight'], large['backbone.stem.weight']
    )


def test_rows_that_wait():
    queue = FeatureQueue(2, 4, init='zeros')
    queue.enqueue(torch.full((1, 2), 1.0), later=True)
    queue.enqueue(torch.full((2, 2), 2.0), later=True)
    assert not queue.features.any() and queue.pointer == 0
    queue.enqueue(torch.full((2, 2), 3.0))
    # five rows into four places: the first is overwritten
    assert queue.features[:, 0].tolist() == [3, 2, 2, 3]
    assert queue.pointer == 1
    queue.enqueue(torch.full((1, 2), 4.0))
    assert queue.features[:, 0].tolist() == [3, 4, 2, 3]


def test_last_step_of_an_update():
    assert ends_update(1) and ends_update(3)  # outside a runner
    hub = MessageHub.get_instance('accumulation')
    hub.update_info('max_iters', 8)
    ends = []
    for iteration in range(8):
        hub.update_info('iter', iteration)
        ends.append(ends_update(3))
    # the last one updates in any case
    assert ends == [False, False, True, False, False, True, False, True]
