"""Why the baselines are heads of this package: what mmpretrain's would do.

SimCLR's gradient over several processes stands in
``heads/test_instance_contrast_head.py``, SwAV's codes in
``utils/test_sinkhorn.py``.
"""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.distillers.momentum import MomentumStudent
from mmssd.models.utils.feature_queue import FeatureQueue

N, D = 4, 3


class Backbone(BaseModule):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 1)
        self.norm = nn.BatchNorm2d(5)

    def forward(self, x):
        return (self.norm(self.conv(x)).mean(dim=(2, 3)),)


class Neck(BaseModule):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, D)

    def forward(self, x):
        return (self.linear(x[0]),)


@pytest.fixture
def algorithm():
    """Build an algorithm of mmpretrain on small networks."""
    hub = MessageHub.get_current_instance()
    hub.update_info('max_iters', 100)

    def build(name, head, **kwargs):
        model = dict(
            type=f'mmpretrain.{name}',
            backbone=Backbone(),
            neck=Neck(),
            head=head,
            **kwargs,
        )
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return MODELS.build(model).train()

    yield build
    hub.runtime_info.pop('max_iters')


def moco(algorithm):
    return algorithm(
        'MoCo',
        dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss')),
        queue_len=2 * N,
        feat_dim=D,
    )


def byol(algorithm):
    predictor = dict(
        type='NonLinearNeck',
        in_channels=D,
        hid_channels=D,
        out_channels=D,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )
    return algorithm(
        'BYOL',
        dict(
            type='LatentPredictHead',
            predictor=predictor,
            loss=dict(type='CosineSimilarityLoss'),
        ),
        base_momentum=0.5,
    )


def views(number=N):
    return [torch.randn(number, 3, 2, 2) for _ in range(2)]


def test_its_average_copies_the_statistics_of_batch_norm(algorithm):
    model = moco(algorithm)
    student, average = model.backbone, model.encoder_k.module[0]
    own = MomentumStudent(student, model.neck)
    for network in (average, own.backbone):
        network.norm.running_mean.fill_(7.0)
    student(torch.randn(N, 3, 2, 2))  # moves the student's statistics
    model.encoder_k.update_parameters(nn.Sequential(student, model.neck))
    own.update(model)
    torch.testing.assert_close(
        average.norm.running_mean, student.norm.running_mean
    )
    assert (own.backbone.norm.running_mean == 7).all()


def test_its_queue_takes_batches_that_divide_it_alone(algorithm):
    model = moco(algorithm)
    keys = nn.functional.normalize(torch.randn(3, D), dim=1)
    with pytest.raises(AssertionError):
        model._dequeue_and_enqueue(keys)
    queue = FeatureQueue(D, 2 * N)
    for _ in range(3):  # nine rows into eight
        queue.enqueue(keys)
    assert queue.pointer.item() == 1
    torch.testing.assert_close(queue.features[:1], keys[2:])


def test_its_target_moves_with_every_batch_of_an_accumulated_step(algorithm):
    model = byol(algorithm)
    model.loss(views(), [])  # the first one copies
    with torch.no_grad():  # as an update of the weights would
        model.backbone.conv.weight.add_(1.0)
    target = model.target_net.module[0].conv.weight
    distances = [(model.backbone.conv.weight - target).abs().max().item()]
    for _ in range(3):  # batches that are added up, no update between them
        model.loss(views(), [])
        distances.append(
            (model.backbone.conv.weight - target).abs().max().item()
        )
    assert distances == sorted(distances, reverse=True)
    assert distances[3] < 0.2 * distances[0]  # a half each, not once


def test_its_swav_keeps_the_queue_out_of_the_checkpoint():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loss = MODELS.build(
            dict(type='SwAVLoss', feat_dim=D, num_crops=[2], num_prototypes=2)
        )
    loss.queue = torch.zeros(2, 2 * N, D)  # what its hook does
    loss(torch.randn(2 * N, D))
    assert loss.queue.any()
    assert set(loss.state_dict()) == {'prototypes.weight'}
