"""DINO's head: temperatures, centre, last layer and its average."""

import pytest
import torch
from mmengine import dist
from mmengine.logging import MessageHub
from mmengine.model import BaseModule, MMDistributedDataParallel
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils.data import Dataset

from mmssd.models.distillers.distiller import Distiller
from mmssd.models.heads.dino_head import DINOHead
from mmssd.models.losses import self_distillation
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.step import Encodings, Step

N, D, K = 4, 3, 6
PLAN = TrainingPlan(batch=8, max_iters=40, epoch_length=10)


def make_head(**kwargs):
    torch.manual_seed(3)
    head = DINOHead(D, K, **kwargs).double()
    for layer in (head.last_layer, head.momentum_last_layer):
        nn.init.normal_(layer.parametrizations.weight.original1)
    return head


def make_step(crops=4, seed=0, width=D):
    generator = torch.Generator().manual_seed(seed)

    def rows():
        return torch.randn(N, width, generator=generator, dtype=torch.float64)

    return Step(
        student=Encodings(
            embeddings=[rows().requires_grad_() for _ in range(crops)]
        ),
        momentum=Encodings(embeddings=[rows() for _ in range(2)]),
        num_global=2,
    )


def unit(rows):
    return rows / rows.square().sum(dim=1, keepdim=True).sqrt()


def logits(layer, rows):
    """Cosines with the directions of the last layer."""
    direction = layer.parametrizations.weight.original1
    return [unit(x) @ unit(direction).t() for x in rows]


def test_defaults_are_those_of_dino():
    head = DINOHead()
    assert head.last_layer.weight.shape == (65536, 256)
    assert (head.student_temperature, head.temperature()) == (0.1, 0.04)
    assert head.center_momentum == 0.9
    needs = head.needs
    assert needs.momentum_views == 'global' and needs.student_views == 'all'
    assert needs.min_global == 2


def test_loss_and_gradient_are_the_slow_reference():
    head = make_head(weight=0.5)
    center = torch.randn(1, K, dtype=torch.float64)
    head.center.copy_(center)
    step = make_step()
    student, teacher = step.student.embeddings, step.momentum.embeddings
    loss = head.loss(step)
    assert list(loss) == ['loss_dino']
    expected = 0.5 * self_distillation(
        logits(head.last_layer, student),
        logits(head.momentum_last_layer, teacher),
        center,
    )
    torch.testing.assert_close(loss['loss_dino'], expected)
    directions = head.last_layer.parametrizations.weight.original1
    wanted = torch.autograd.grad(expected, [*student, directions])
    loss['loss_dino'].backward()
    for got, gradient in zip([*student, directions], wanted, strict=True):
        torch.testing.assert_close(got.grad, gradient)
    assert all(p.grad is None for p in head.momentum_last_layer.parameters())


def test_the_centre_is_used_before_it_moves():
    head = make_head(center_momentum=0.75)
    expected = torch.zeros(1, K, dtype=torch.float64)
    for seed in range(3):
        step = make_step(seed=seed)
        t = logits(head.momentum_last_layer, step.momentum.embeddings)
        value = self_distillation(
            logits(head.last_layer, step.student.embeddings), t, expected
        )
        torch.testing.assert_close(head.loss(step)['loss_dino'], value)
        expected = 0.75 * expected + 0.25 * torch.cat(t).mean(0, True)
        torch.testing.assert_close(head.center, expected)
    head.eval()
    head.loss(make_step())
    torch.testing.assert_close(head.center, expected)
    assert int(head.iteration) == 3


def test_temperatures_by_hand():
    head = make_head(
        teacher_temperature=0.07,
        warmup_teacher_temperature=0.04,
        temperature_warmup=dict(epochs=0.3),
    )
    with pytest.raises(SetupError, match='temperature_warmup.* HealthHook'):
        head.temperature()
    head.check(PLAN)  # three iterations
    for expected in (0.04, 0.05, 0.06, 0.07, 0.07):
        assert head.temperature() == pytest.approx(expected)
        head.loss(make_step())
    # and on from there after resuming
    other = make_head(
        teacher_temperature=0.08,
        warmup_teacher_temperature=0.04,
        temperature_warmup=10,
    )
    other.load_state_dict(head.state_dict())
    assert other.temperature() == pytest.approx(0.06)
    assert torch.equal(other.center, head.center)


@pytest.mark.parametrize('norm_last_layer', [True, False])
def test_the_last_layer_may_be_frozen_for_a_while(norm_last_layer):
    head = make_head(freeze_last_layer=1, norm_last_layer=norm_last_layer)
    weight = head.last_layer.parametrizations.weight
    torch.testing.assert_close(
        head.last_layer.weight.norm(dim=1),
        torch.ones(K, dtype=torch.float64),
    )
    for frozen in (True, False):
        step = make_step()
        head.zero_grad()
        head.loss(step)['loss_dino'].backward()
        assert bool(weight.original1.grad.any()) != frozen
        assert step.student.embeddings[3].grad.any()
        if norm_last_layer:
            assert not weight.original0.requires_grad
        else:
            assert bool(weight.original0.grad.any()) != frozen


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(student_temperature=0.0), 'student_temperature=0.0'),
        (dict(teacher_temperature=-1.0), 'teacher_temperature=-1.0'),
        (
            dict(warmup_teacher_temperature=0.0),
            'warmup_teacher_temperature=0.0',
        ),
        (dict(center_momentum=1.0), 'center_momentum=1.0'),
        (dict(weight=-1.0), 'weight=-1.0'),
        (dict(num_prototypes=0), 'num_prototypes=0'),
        (dict(freeze_last_layer=-1), 'freeze_last_layer=-1'),
        (dict(temperature_warmup='x'), "temperature_warmup='x'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as info:
        MODELS.build(
            dict(
                type='mmpretrain.DINOHead',
                embed_dim=D,
                **{'num_prototypes': K, **arguments},
            )
        )
    assert message in str(info.value)


def test_bad_trainings(capsys):
    with pytest.raises(SetupError, match='freeze_last_layer=.* never learn'):
        make_head(freeze_last_layer=dict(epochs=4)).check(PLAN)
    make_head(temperature_warmup=41).check(PLAN)
    assert 'it ends below teacher_temperature' in capsys.readouterr().out
    with pytest.raises(SetupError, match='embed_dim=3 .* have width 2'):
        make_head().loss(make_step(width=2))


# --- in a distiller ---------------------------------------------------------


class Backbone(BaseModule):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, stride=2, padding=1)

    def forward(self, x):
        return (self.stem(x).relu(),)


def make_model(momentum=0.75, **kwargs):
    torch.manual_seed(7)
    return Distiller(
        Backbone(),
        MODELS.build(
            dict(
                type='mmpretrain.MLPNeck',
                in_channels=5,
                hid_channels=6,
                out_channels=D,
            )
        ),
        dict(
            dino=dict(
                type='mmpretrain.DINOHead',
                embed_dim=D,
                num_prototypes=K,
                **kwargs,
            )
        ),
        momentum=momentum,
    )


def make_views(sizes=(8, 8, 4), rows=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, 3, size, size, generator=generator) for size in sizes
    ]


def test_the_last_layers_average_follows_the_momentum_student():
    model = make_model()
    model.init_weights()
    head = model.heads['dino']
    own, source = (
        layer.parametrizations.weight.original1
        for layer in (head.momentum_last_layer, head.last_layer)
    )
    assert torch.equal(own, source)
    with torch.no_grad():
        source.add_(1.0)
    before, neck = own.clone(), model.momentum.neck.mlp[0].weight.clone()
    with torch.no_grad():
        model.neck.mlp[0].weight.add_(1.0)
    model.loss(make_views())
    torch.testing.assert_close(own, before + 0.25)
    torch.testing.assert_close(model.momentum.neck.mlp[0].weight, neck + 0.25)
    model.eval()
    model.loss(make_views())
    torch.testing.assert_close(own, before + 0.25)
    model.init_weights()  # a new start copies
    assert torch.equal(own, source)


def test_the_schedule_is_that_of_the_training():
    model = make_model(dict(decay=0.5, final_decay=1.0))
    with pytest.raises(SetupError, match='final_decay=1.0'):
        model.loss(make_views())
    hub = MessageHub.get_current_instance()
    state = dict(loop_stage='train', iter=5, max_iters=10)
    for key, value in state.items():
        hub.update_info(key, value)
    source = model.heads['dino'].last_layer.parametrizations.weight.original1
    own = model.heads['dino'].momentum_last_layer.parametrizations.weight
    before = own.original1.clone()
    with torch.no_grad():
        source.add_(1.0)
    model.loss(make_views())  # half way: 0.75
    torch.testing.assert_close(own.original1, before + 0.25)


def test_one_global_crop_is_too_few():
    with pytest.raises(SetupError, match=r"\['dino'\] need 2 global crops"):
        make_model().loss(make_views((8, 4, 4)))


def test_a_step_never_waits_for_the_device(host_waits):
    model = make_model(freeze_last_layer=1, temperature_warmup=2)
    for iteration in range(3):
        with host_waits() as watch:
            loss = model.loss(make_views(seed=iteration))['dino.loss_dino']
            loss.backward()
        assert not watch.found


def take_steps(iterations):
    """Run alone or on a worker: the state after a few steps."""
    model = make_model(freeze_last_layer=1).double()
    rank, world = dist.get_rank(), dist.get_world_size()
    wrapper = MMDistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], 0.5, 0.9
    )
    model.train()
    losses = []
    for iteration in range(iterations):
        views = [
            view.double().tensor_split(world)[rank]
            for view in make_views(seed=iteration)
        ]
        loss = wrapper(views, mode='loss')['dino.loss_dino']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.state_dict(), losses


@pytest.mark.dist
def test_two_processes_train_as_one(two_processes):
    alone, losses = take_steps(4)
    untrained, _ = take_steps(0)
    (first, losses0), (second, losses1) = two_processes(take_steps, 4)
    for name, value in alone.items():
        torch.testing.assert_close(
            first[name], value, rtol=1e-10, atol=1e-12, msg=name
        )
        assert torch.equal(first[name], second[name]), name
    last = 'heads.dino.last_layer.parametrizations.weight.original1'
    for name in ('heads.dino.center', 'backbone.stem.weight', last):
        assert not torch.equal(alone[name], untrained[name]), name
    for a, b, whole in zip(losses0, losses1, losses, strict=True):
        assert (a + b) / 2 == pytest.approx(whole, rel=1e-10)


# --- inside a runner --------------------------------------------------------


class Images(Dataset):
    """Eight images of three crops."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        views = make_views(rows=1, seed=index)
        return dict(inputs=[v[0] for v in views], data_samples=index)


def run(folder, model, epochs=2, **kwargs):
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Images(),
            batch_size=4,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[dict(type='HealthHook')],
        experiment_name=f'{folder.name}_{len(kwargs)}',
        log_level='ERROR',
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        **kwargs,
    )
    runner.train()
    return runner.model


SCHEDULED = dict(decay=0.5, final_decay=1.0)
FREEZE = dict(freeze_last_layer=dict(epochs=1))


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole = run(tmp_path / 'whole', make_model(SCHEDULED, **FREEZE))
    resumed = run(
        tmp_path / 'resumed',
        make_model(SCHEDULED, **FREEZE),
        resume=True,
        load_from=str(tmp_path / 'whole' / 'epoch_1.pth'),
    )
    assert resumed.heads['dino']._iteration == 4
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)


def test_the_averaged_network_of_a_run_teaches_disco(tmp_path):
    first = run(tmp_path / 'dino', make_model(SCHEDULED))
    source = first.momentum
    assert not torch.equal(
        source.backbone.stem.weight, first.backbone.stem.weight
    )
    model = make_model(SCHEDULED)
    heads = dict(
        dino=model.heads['dino'],
        embedding=dict(type='mmpretrain.EmbeddingHead', weight=32.0),
    )
    model = Distiller(
        Backbone(),
        model.neck,
        heads,
        teacher=dict(
            type='mmpretrain.Teacher',
            backbone=Backbone(),
            neck=make_model().neck,
            checkpoint=str(tmp_path / 'dino' / 'epoch_2.pth'),
            prefix='momentum.',
        ),
        momentum=SCHEDULED,
    )
    model = run(tmp_path / 'disco', model)
    for name, value in source.state_dict().items():
        own = getattr(model.teacher, name.split('.')[0])
        own = own.state_dict()[name.split('.', 1)[1]]
        assert torch.equal(own, value), name
    # the bottleneck of both global crops
    views = make_views()
    model.eval()
    terms = model.loss(views)
    expected = 0
    for view in views[:2]:
        s, t = (
            unit(network.neck(network.backbone(view))[0])
            for network in (model, model.teacher)
        )
        expected = expected + 32 * (s - t).square().sum(1).mean()
    torch.testing.assert_close(terms['embedding.loss_embedding'], expected)
