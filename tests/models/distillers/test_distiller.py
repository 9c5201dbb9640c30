"""The distiller: what runs, who is trained, and what must never happen."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.logging import MessageHub
from mmengine.model import BaseModule, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils.data import Dataset

from mmssd.engine.optimizers.larc import LARC
from mmssd.models.distillers.distiller import Distiller, build_heads
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.heads import feature_classifier_head
from mmssd.models.heads.base_head import DistillHead
from mmssd.models.heads.feature_classifier_head import dann_ramp
from mmssd.models.necks.dropout_projection_neck import DropoutProjectionNeck
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.step import Needs

N, D, K = 4, 6, 5
SIZES = (8, 8, 4, 4)


class Backbone(BaseModule):
    """Two convolutions; a tuple of two stages."""

    def __init__(self, width=5, norm=True, init_cfg=None):
        super().__init__(init_cfg)
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.stage = nn.Conv2d(width, width, 3, padding=1)
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        x = self.norm(self.stem(x)).relu()
        return x, self.stage(x).relu()


class StubTeacher(BaseModule):
    """The contract of a teacher: backbone, neck, frozen, extra."""

    def __init__(self, width=7, frozen=False, norm=True, out_channels=D):
        super().__init__()
        self.backbone = Backbone(width, norm)
        self.neck = make_neck(width, norm=norm, out_channels=out_channels)
        self.frozen = frozen
        self.loads = 0
        if frozen:
            self.requires_grad_(False)

    def train(self, mode=True):
        return super().train(mode and not self.frozen)

    def ensure_loaded(self):
        self.loads += 1

    def extra(self, name):
        return torch.eye(K, D)


def make_neck(width, out_channels=D, dropout=(0.1, 0.05), norm=True):
    return DropoutProjectionNeck(
        width, 9, out_channels, dropout=dropout, norm=norm
    )


def clustering(**kwargs):
    return dict(
        type='OnlineClusteringHead',
        embed_dim=D,
        num_prototypes=K,
        **{'dropout_views': True, **kwargs},
    )


SWAV = dict(codes_from='student', train=('student',), dropout_views=False)
DOMAIN = dict(type='FeatureClassifierHead', embed_dim=D, hid_channels=8)


def make(
    heads=None,
    frozen=False,
    teacher=True,
    norm=True,
    dropout=(0.1, 0.05),
    **kw,
):
    """By default OSS: an online teacher and both heads."""
    torch.manual_seed(7)
    if heads is None:
        heads = dict(clustering=clustering(), domain=DOMAIN)
    if teacher is True:
        teacher = StubTeacher(frozen=frozen, norm=norm)
        teacher.neck.dropout = dropout
    return Distiller(
        backbone=Backbone(norm=norm),
        neck=make_neck(5, norm=norm, dropout=dropout),
        heads=heads,
        teacher=teacher or None,
        **kw,
    )


def make_views(sizes=SIZES, rows=N, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, 3, size, size, generator=generator) for size in sizes
    ]


def total(terms):
    return sum(value for key, value in terms.items() if 'loss' in key)


# --- what runs --------------------------------------------------------------


def test_each_network_runs_once_per_resolution():
    model = make()
    counts = {}
    for name, neck in (
        ('student', model.neck),
        ('teacher', model.teacher.neck),
    ):
        for layer in ('fc0', 'fc1'):
            key = f'{name}.{layer}'
            counts[key] = []
            getattr(neck, layer).register_forward_hook(
                lambda _, x, y, key=key: counts[key].append(len(y))
            )
    model.loss(make_views())
    calls = [(2 * N, 3, 8, 8), (2 * N, 3, 4, 4)]
    assert model.backbone.calls == calls
    assert model.teacher.backbone.calls == calls
    # the projector once over all crops, its second layer for both views
    assert counts == {
        'student.fc0': [4 * N],
        'student.fc1': [4 * N, 4 * N],
        'teacher.fc0': [4 * N],
        'teacher.fc1': [4 * N, 4 * N],
    }


def test_a_teacher_for_codes_sees_the_global_crops_alone():
    model = make(dict(clustering=clustering(train=('student',))), frozen=True)
    model.loss(make_views())
    assert model.teacher.backbone.calls == [(2 * N, 3, 8, 8)]
    assert len(model.backbone.calls) == 2


def test_a_network_that_nobody_asks_for_does_not_run():
    model = make(dict(clustering=clustering(**SWAV)), momentum=0.9)
    model.loss(make_views())
    assert not model.teacher.backbone.calls
    assert not model.momentum.backbone.calls


def test_terms_are_those_of_the_heads():
    model = make()
    # evaluation: no dropout and no batch statistics; prototypes unit
    model.eval()
    head = model.heads['clustering']
    head.prototypes.weight.data = F.normalize(head.prototypes.weight, dim=1)
    views = make_views()
    terms = model.loss(views)
    assert set(terms) == {
        'clustering.loss_teacher',
        'clustering.loss_student',
        'domain.loss_domain',
        'domain.accuracy',
    }

    def embed(network):
        return [
            F.normalize(network.neck(network.backbone(v))[0], dim=1)
            for v in views
        ]

    student, teacher = embed(model), embed(model.teacher)
    codes = head.codes([z.detach() for z in teacher[:2]])
    for name, embeddings in (('student', student), ('teacher', teacher)):
        pairs = [(0, 1), (1, 0)]
        for i in (0, 1):
            pairs += [(i, v) for v in (2, 3)]
            pairs += [(i, v) for v in range(4)]  # the dropout views
        assert len(pairs) == 14
        expected = sum(
            -(
                codes[i]
                * (
                    embeddings[v] @ head.prototypes.weight.t() / 0.1
                ).log_softmax(1)
            )
            .sum(1)
            .mean()
            for i, v in pairs
        ) / len(pairs)
        assert terms[f'clustering.loss_{name}'].item() == pytest.approx(
            expected.item(), rel=1e-5
        )
    logits = model.heads['domain'].classifier(
        torch.cat(teacher[:2] + student[:2])
    )
    labels = torch.tensor([0] * 2 * N + [1] * 2 * N)
    assert terms['domain.loss_domain'].item() == pytest.approx(
        F.cross_entropy(logits, labels).item(), rel=1e-5
    )


def test_sum_of_the_terms_is_the_total():
    model = make()
    terms = model.loss(make_views())
    parsed, logged = model.parse_losses(terms)
    expected = (
        terms['clustering.loss_teacher']
        + terms['clustering.loss_student']
        + terms['domain.loss_domain']
    )
    assert torch.equal(parsed, expected)
    assert set(logged) == {'loss', *terms}


def test_any_number_of_heads_side_by_side():
    model = make(
        dict(
            first=clustering(),
            second=clustering(**SWAV),
            third=clustering(train=('student',)),
        )
    )
    terms = model.loss(make_views())
    assert set(terms) == {
        'first.loss_teacher',
        'first.loss_student',
        'second.loss_student',
        'third.loss_student',
    }
    assert model.backbone.calls == [(2 * N, 3, 8, 8), (2 * N, 3, 4, 4)]


def test_channels_last_changes_nothing_but_the_layout():
    views = make_views()
    plain, last = (
        make(dropout=(0, 0)),
        make(dropout=(0, 0), channels_last=True),
    )
    assert last.backbone.stem.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    assert last.teacher.backbone.stem.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    expected, terms = plain.loss(views), last.loss(views)
    for key, value in expected.items():
        torch.testing.assert_close(terms[key], value, rtol=1e-4, atol=1e-6)


def test_autocast_leaves_the_objectives_in_float32():
    model = make(norm=False)
    seen = {}
    head = model.heads['clustering']
    original = head.loss

    def loss(step):
        seen['autocast'] = torch.is_autocast_enabled('cpu')
        seen['dtype'] = step.student.embeddings[0].dtype
        return original(step)

    head.loss = loss
    with torch.autocast('cpu', dtype=torch.bfloat16):
        terms = model.loss(make_views())
    assert seen == dict(autocast=False, dtype=torch.bfloat16)
    assert all(value.dtype == torch.float32 for value in terms.values())
    total(terms).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_float64_throughout():
    model = make().double()
    terms = model.loss([view.double() for view in make_views()])
    assert terms['clustering.loss_student'].dtype == torch.float64
    assert terms['domain.loss_domain'].dtype == torch.float64


# --- global crops -----------------------------------------------------------


class Spy(DistillHead):
    """Reads everything and keeps the step."""

    def __init__(self, needs=None):
        super().__init__()
        self._needs = needs or Needs(student={'embeddings'})
        self.steps = []

    @property
    def needs(self):
        return self._needs

    def loss(self, step):
        self.steps.append(step)
        return {'loss_spy': torch.cat(step.student.embeddings).mean()}


def spied(num_global=None, sizes=SIZES, needs=None):
    spy = Spy(needs)
    model = make(dict(spy=spy), num_global=num_global)
    model.loss(make_views(sizes), data_samples=['sample'])
    return spy.steps[0]


@pytest.mark.parametrize(
    ('sizes', 'num_global', 'expected'),
    [
        ((8, 8, 4, 4), None, 2),
        ((8, 4, 4), None, 1),
        ((8, 8), None, 2),
        ((8, 8, 8), 3, 3),
        ((8,), None, 1),
        ((8, 4, 8), None, 1),  # leading views only
        ((8, 8, 8, 8), 2, 2),  # small crops as large as the global ones
        ((8, 8, 4, 4), 1, 1),
    ],
)
def test_number_of_global_crops(sizes, num_global, expected):
    step = spied(num_global, sizes)
    assert step.num_global == expected
    assert len(step.student.embeddings) == len(sizes)
    assert step.data_samples == ['sample']
    assert step.teacher is None and step.momentum is None
    assert step.progress is None


def test_many_views_of_one_size_are_ambiguous():
    with pytest.raises(SetupError, match=r'3 views, all of \(8, 8\) pixels'):
        spied(None, (8, 8, 8))


def test_networks_that_are_there_for_nothing():
    plan = TrainingPlan(batch=4, max_iters=10, epoch_length=5)
    for arguments, message in (
        (dict(), 'has a teacher, but no head reads'),
        (dict(teacher=None, momentum=0.9), 'has a momentum, but no head'),
    ):
        model = make(dict(clustering=clustering(**SWAV)), **arguments)
        with pytest.raises(SetupError, match=message):
            model.check(plan)
    # read by the codes, but in nobody's loss
    model = make(dict(clustering=clustering(train=('student',))))
    with pytest.raises(SetupError, match='no head trains it'):
        model.check(plan)


def test_check_reaches_views_and_heads():
    model = make()
    number = dict(batch=4, max_iters=10, epoch_length=5)
    model.check(TrainingPlan(**number, num_views=2))
    with pytest.raises(SetupError, match='need 2 global crops.* 1 view'):
        model.check(TrainingPlan(**number, num_views=1))


def test_a_single_tensor_is_one_view():
    spy = Spy()
    make(dict(spy=spy)).loss(make_views()[0])
    assert len(spy.steps[0].student.embeddings) == 1


def test_a_batch_without_enough_global_crops():
    model = make()
    for sizes, found in (((8, 4, 4), '3 view'), ((8,), '1 view')):
        with pytest.raises(
            ValueError,
            match=rf"head\(s\) \['clustering'\] need 2 global crops.*{found}"
            '.*1 of them global.*MultiView or MultiCropPreprocessor',
        ):
            model.loss(make_views(sizes))
    with pytest.raises(ValueError, match='need 2 global crops'):
        make(num_global=1).loss(make_views())


def test_more_global_crops_than_views():
    with pytest.raises(ValueError, match=r'num_global=5 .* 4 view\(s\)'):
        make(num_global=5).loss(make_views())


# --- who is trained ---------------------------------------------------------


def trained_by(model, key):
    """Names of parameters with a gradient that is not all zero."""
    model.zero_grad()
    model.loss(make_views())[key].backward()
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


def parts(names):
    return {
        '.'.join(name.split('.')[:2])
        if name.startswith(('teacher', 'heads'))
        else name.split('.')[0]
        for name in names
    }


def test_the_students_term_trains_student_and_prototypes_alone():
    names = trained_by(make(), 'clustering.loss_student')
    assert parts(names) == {'backbone', 'neck', 'heads.clustering'}


def test_the_teachers_term_trains_teacher_and_prototypes_alone():
    names = trained_by(make(), 'clustering.loss_teacher')
    assert parts(names) == {
        'teacher.backbone',
        'teacher.neck',
        'heads.clustering',
    }


def test_the_domain_term_trains_both_networks_but_no_prototypes():
    names = trained_by(make(), 'domain.loss_domain')
    assert parts(names) == {
        'backbone',
        'neck',
        'teacher.backbone',
        'teacher.neck',
        'heads.domain',
    }


def test_the_networks_get_the_reversed_gradient(monkeypatch):
    """Down to the weights of the backbones, sign and size."""
    grads = []
    for reverse in (True, False):
        if not reverse:  # an ordinary classifier
            monkeypatch.setattr(
                feature_classifier_head,
                'reverse_gradient',
                lambda x, alpha: x,
            )
        model = make(dict(domain={**DOMAIN, 'alpha': 0.5})).double()
        views = [view.double() for view in make_views()]
        model.loss(views)['domain.loss_domain'].backward()
        grads.append({n: p.grad for n, p in model.named_parameters()})
    reversed_, ordinary = grads
    for name, gradient in ordinary.items():
        factor = 1.0 if name.startswith('heads') else -0.5
        torch.testing.assert_close(
            reversed_[name], factor * gradient, rtol=1e-9, atol=1e-15
        )


@pytest.mark.parametrize('frozen', [False, True])
def test_every_parameter_that_may_gets_a_gradient(frozen):
    heads = dict(
        clustering=clustering(
            train=('student',) if frozen else ('teacher', 'student')
        ),
        domain=DOMAIN,
    )
    model = make(heads, frozen=frozen)
    total(model.loss(make_views())).backward()
    for name, parameter in model.named_parameters():
        if frozen and name.startswith('teacher'):
            assert parameter.grad is None and not parameter.requires_grad
        else:
            assert parameter.grad is not None, name


def test_prototypes_may_be_frozen_for_a_while():
    model = make(dict(clustering=clustering(freeze_prototypes=1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for iteration in range(2):
        optimizer.zero_grad()
        total(model.loss(make_views())).backward()
        assert all(p.grad is not None for p in model.parameters())
        gradient = model.heads['clustering'].prototypes.weight.grad
        assert bool(gradient.any()) == bool(iteration)
        optimizer.step()


def test_a_frozen_teacher_stays_as_it_is():
    model = make(
        dict(clustering=clustering(train=('student',)), domain=DOMAIN),
        frozen=True,
    )
    model.train()
    assert not any(m.training for m in model.teacher.modules())
    views = make_views()
    before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    output = model.teacher.neck(model.teacher.backbone(views[0]))[0]
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.5
    )
    for _ in range(10):
        optimizer.zero_grad()
        total(model.loss(views)).backward()
        optimizer.step()
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    again = model.teacher.neck(model.teacher.backbone(views[0]))[0]
    assert torch.equal(again, output)
    assert model.teacher.loads == 10  # asked at every step


def test_encodings_of_a_frozen_teacher_carry_no_graph():
    spy = Spy(
        Needs(student={'embeddings'}, teacher={'embeddings', 'feature_maps'})
    )
    model = make(dict(spy=spy), frozen=True)
    model.loss(make_views())
    teacher = spy.steps[0].teacher
    assert not any(z.requires_grad for z in teacher.embeddings)
    assert not any(m.requires_grad for ms in teacher.feature_maps for m in ms)
    model = make(dict(spy=spy))
    model.loss(make_views())
    assert all(z.requires_grad for z in spy.steps[1].teacher.embeddings)


def test_the_real_teacher(tmp_path):
    """off.KD-Drop: a student taught by a SwAV run's own checkpoint."""
    torch.manual_seed(1)
    swav = Distiller(
        Backbone(7), make_neck(7), dict(clustering=clustering(**SWAV))
    )
    swav.loss(make_views())  # statistics, and prototypes of unit length
    path = tmp_path / 'swav.pth'
    torch.save(dict(state_dict=swav.state_dict()), path)
    model = make(
        dict(
            clustering=clustering(train=('student',), teacher_prototypes=True),
            domain=DOMAIN,
        ),
        teacher=dict(
            backbone=Backbone(7),
            neck=make_neck(7),
            checkpoint=str(path),
            extra_keys=dict(prototypes='heads.clustering.prototypes.weight'),
        ),
    )
    assert isinstance(model.teacher, Teacher)
    with pytest.raises(RuntimeError, match=r'init_weights\(\)'):
        model.loss(make_views())
    model.init_weights()
    model.train()
    assert not any(m.training for m in model.teacher.modules())
    prototypes = swav.heads['clustering'].prototypes.weight
    torch.testing.assert_close(
        model.heads['clustering'].teacher_prototypes, prototypes.detach()
    )
    for name in ('backbone', 'neck'):
        loaded = getattr(model.teacher, name).state_dict()
        for key, value in getattr(swav, name).state_dict().items():
            assert torch.equal(loaded[key], value), key
    total(model.loss(make_views())).backward()
    for name, parameter in model.named_parameters():
        taught = not name.startswith('teacher')
        assert (parameter.grad is not None) == taught, name
    # ten steps later the teacher says the same
    view = make_views()[0]
    output = model.teacher.neck(model.teacher.backbone(view))[0]
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.5
    )
    for _ in range(10):
        total(model.loss(make_views())).backward()
        optimizer.step()
    assert torch.equal(
        model.teacher.neck(model.teacher.backbone(view))[0], output
    )


def test_the_real_teacher_online():
    model = make(
        teacher=dict(backbone=Backbone(7), neck=make_neck(7), frozen=False)
    )
    total(model.loss(make_views())).backward()
    assert all(p.grad is not None for p in model.parameters())


# --- momentum student -------------------------------------------------------

MOMENTUM = Needs(
    student={'embeddings'}, momentum={'embeddings'}, momentum_views='global'
)


def test_momentum_student_is_updated_before_it_encodes():
    spy = Spy(MOMENTUM)
    model = make(dict(spy=spy), momentum=0.75, norm=False, dropout=(0, 0))
    with torch.no_grad():
        for parameter in model.momentum.parameters():
            parameter.fill_(0.01)
    expected = {
        # 0.75 of its own, 0.25 of the student's
        name: 0.75 * 0.01 + 0.25 * model.get_parameter(name)
        for name, _ in model.momentum.named_parameters()
    }
    views = make_views()
    model.loss(views)
    for name, parameter in model.momentum.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
    # the keys are those of the updated weights
    keys = spy.steps[0].momentum.embeddings
    assert len(keys) == 2 and not keys[0].requires_grad
    network = model.momentum
    for view, key in zip(views[:2], keys, strict=True):
        torch.testing.assert_close(
            key, network.neck(network.backbone(view))[0]
        )


def test_neck_that_no_head_reads():
    model = make(
        dict(spy=Spy(Needs(student={'features'}))), teacher=False, norm=False
    )
    with pytest.raises(SetupError, match='set model.neck=None'):
        model.check(TrainingPlan(batch=4, max_iters=4, epoch_length=4))


def test_momentum_student_moves_once_an_update_of_the_weights():
    model = make(dict(spy=Spy(MOMENTUM)), teacher=False, momentum=0.5)
    model.check(
        TrainingPlan(batch=4, max_iters=4, epoch_length=4, accumulation=2)
    )
    hub = MessageHub.get_current_instance()
    moved = []
    for iteration in range(4):
        hub.update_info('iter', iteration)
        with torch.no_grad():
            model.momentum.backbone.stem.weight.fill_(0)
        model.loss(make_views())
        weight = model.momentum.backbone.stem.weight
        moved.append(bool(weight.abs().sum() > 0))
    assert moved == [True, False, True, False]


def test_momentum_students_statistics_are_its_own():
    spy = Spy(MOMENTUM)
    model = make(dict(spy=spy), momentum=dict(decay=0.0))
    model.loss(make_views())
    model.loss(make_views())
    own, student = model.momentum.backbone.norm, model.backbone.norm
    assert own.num_batches_tracked == 2
    assert student.num_batches_tracked == 4  # also the small crops
    assert not torch.equal(own.running_mean, student.running_mean)


def test_momentum_student_is_not_trained_and_rests_in_evaluation():
    spy = Spy(MOMENTUM)
    model = make(dict(spy=spy), momentum=0.5)
    model.loss(make_views())['spy.loss_spy'].backward()
    assert all(p.grad is None for p in model.momentum.parameters())
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(1)
    model.eval()
    before = [p.clone() for p in model.momentum.parameters()]
    model.loss(make_views())
    for a, b in zip(before, model.momentum.parameters(), strict=True):
        assert torch.equal(a, b)


def test_momentum_student_copies_the_initialised_student():
    model = make(dict(spy=Spy(MOMENTUM)), momentum=0.99)
    model.backbone.init_cfg = dict(type='Constant', val=0.5, layer='Conv2d')
    model.init_weights()
    assert (model.backbone.stem.weight == 0.5).all()
    for name, parameter in model.momentum.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    for name, value in model.momentum.named_buffers():
        assert torch.equal(value, model.get_buffer(name)), name


# --- initialisation and checkpoint ------------------------------------------


def test_heads_take_what_they_need_from_the_teacher():
    model = make(
        dict(
            clustering=clustering(train=('student',), teacher_prototypes=True)
        ),
        frozen=True,
    )
    model.init_weights()
    head = model.heads['clustering']
    assert torch.equal(head.prototypes.weight, torch.eye(K, D))
    assert torch.equal(head.teacher_prototypes, torch.eye(K, D))


def test_checkpoint_layout():
    model = make(momentum=0.9, heads=dict(a=clustering(queue_length=8)))
    keys = list(model.state_dict())
    for prefix in (
        'backbone.stem.',
        'neck.fc0.',
        'teacher.backbone.stem.',
        'teacher.neck.fc0.',
        'momentum.backbone.stem.',
        'momentum.neck.fc0.',
        'heads.a.prototypes.',
        'heads.a.queues.0.',
    ):
        assert any(key.startswith(prefix) for key in keys), prefix
    tops = {key.split('.')[0] for key in keys}
    assert tops == {'backbone', 'neck', 'teacher', 'momentum', 'heads'}


def test_forward_gives_backbone_features():
    model = make()
    view = make_views()[0]
    model.eval()
    for output in (model(view), model(view, mode='tensor')):
        expected = model.backbone(view)
        assert isinstance(output, tuple) and len(output) == 2
        assert torch.equal(output[-1], expected[-1])
    terms = model(make_views(), mode='loss')
    assert 'clustering.loss_student' in terms
    with pytest.raises(RuntimeError, match='Invalid mode'):
        model(view, mode='predict')


def test_built_by_config():
    model = MODELS.build(
        dict(
            type='Distiller',
            backbone=dict(
                type='ResNet', depth=18, stem_channels=4, base_channels=4
            ),
            neck=dict(
                type='DropoutProjectionNeck',
                in_channels=32,
                hid_channels=8,
                out_channels=D,
            ),
            heads=dict(clustering=clustering(**SWAV)),
            data_preprocessor=dict(
                type='SelfSupDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3
            ),
        )
    )
    model.init_weights()
    terms = model.loss(make_views((32, 32, 16)))
    assert math.isfinite(terms['clustering.loss_student'].item())
    assert model.teacher is None and model.momentum is None


# --- errors -----------------------------------------------------------------


@pytest.mark.parametrize(
    ('heads', 'message'),
    [
        ({}, 'heads is empty: a distiller needs an objective'),
        (None, 'heads is empty'),
        ({'my_loss': DOMAIN}, '\'my_loss\': must contain neither "loss"'),
        ({'a.b': DOMAIN}, r"'a\.b': must contain neither"),
    ],
)
def test_bad_heads(heads, message):
    with pytest.raises(ValueError, match=message):
        Distiller(Backbone(), make_neck(5), heads=heads)


def test_heads_of_another_type():
    with pytest.raises(TypeError, match='heads must be a dict.*got list'):
        build_heads([DOMAIN])


def test_head_without_its_teacher():
    with pytest.raises(
        ValueError,
        match=r"'domain' \(FeatureClassifierHead\) needs a teacher.*"
        r'model\.teacher=dict',
    ):
        make(teacher=None, heads=dict(domain=DOMAIN))


def test_head_without_its_momentum_student():
    with pytest.raises(
        ValueError,
        match=r"'spy' \(Spy\) needs a momentum student, but the config has "
        r'none: give model\.momentum=dict',
    ):
        make(dict(spy=Spy(MOMENTUM)))


def test_dropout_views_without_their_projector():
    neck = MODELS.build(
        dict(type='LinearNeck', in_channels=5, out_channels=D, gap_dim=2)
    )
    heads = dict(a=clustering(**{**SWAV, 'dropout_views': True}))
    with pytest.raises(
        ValueError,
        match="'a' .* dropout views of the student, but its neck is "
        'LinearNeck: use DropoutProjectionNeck',
    ):
        Distiller(Backbone(), neck, heads=heads)
    with pytest.raises(ValueError, match='its neck is NoneType'):
        Distiller(Backbone(), None, heads=heads)
    teacher = StubTeacher()
    teacher.neck = neck
    with pytest.raises(ValueError, match='dropout views of the teacher'):
        make(teacher=teacher)
    # without dropout views any projector will do
    make(dict(a=clustering(dropout_views=False)), teacher=teacher)


@pytest.mark.parametrize(
    ('heads', 'teacher_width', 'message'),
    [
        (
            dict(a=clustering(dropout_views=False)),
            D + 1,
            "'a' works on embeddings of width 6, but the neck of the teacher "
            'gives 7: make neck.out_channels',
        ),
        (
            dict(a={**clustering(**SWAV), 'embed_dim': D + 2}),
            D,
            'width 8, but the neck of the student gives 6',
        ),
    ],
)
def test_widths_that_differ(heads, teacher_width, message):
    with pytest.raises(ValueError, match=message):
        make(heads, teacher=StubTeacher(out_channels=teacher_width))


def test_a_width_that_nobody_uses_does_not_matter():
    make(dict(a=clustering(**SWAV)), teacher=StubTeacher(out_channels=D + 1))


def test_training_a_frozen_teacher():
    with pytest.raises(
        ValueError,
        match=r"'clustering' trains the teacher.*frozen.*\('student',\)",
    ):
        make(frozen=True)


@pytest.mark.parametrize('num_global', [0, -1])
def test_num_global_out_of_range(num_global):
    with pytest.raises(ValueError, match=f'num_global={num_global}'):
        make(num_global=num_global)


# --- no waiting for the device ----------------------------------------------


@pytest.mark.parametrize(
    'act',
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.new_tensor([1.0, 2.0]),
    ],
)
def test_the_watch_sees(host_waits, act):
    x = torch.ones(3)
    with host_waits() as watch:
        act(x)
    assert watch.found


def test_a_step_never_waits_for_the_device(host_waits):
    spy = Spy(MOMENTUM)
    model = make(
        dict(
            clustering=clustering(queue_length=2 * N, freeze_prototypes=2),
            domain={**DOMAIN, 'alpha': 0.5},
            spy=spy,
        ),
        momentum=0.99,
    )
    for _ in range(4):  # an incomplete queue, a full one; frozen and free
        with host_waits() as watch:
            terms = model.loss(make_views())
            model.parse_losses(terms)[0].backward()
        assert not watch.found


# --- processes --------------------------------------------------------------


FROZEN = ('offline', 'seed', 'disco')


def take_steps(scheme, optimizer, iterations=4):
    """Run alone or on a worker: the state after a few steps.

    Each process takes its share of the same global batch. There is no
    batch norm, and the dropout rates are zero.
    """
    heads = dict(
        oss=dict(
            clustering=clustering(queue_length=10, freeze_prototypes=1),
            domain={**DOMAIN, 'alpha': 0.5},
        ),
        swav=dict(clustering=clustering(**SWAV, queue_length=8)),
        offline=dict(clustering=clustering(train=('student',))),
        seed=dict(
            similarity=dict(
                type='SimilarityQueueHead',
                embed_dim=D,
                queue_length=10,
                init='zeros',  # the same on all processes
            )
        ),
        disco=dict(
            contrast=dict(
                type='MomentumContrastHead', embed_dim=D, queue_length=10
            ),
            embedding=dict(type='EmbeddingHead', weight=32.0),
        ),
    )[scheme]
    teacher = None
    if scheme != 'swav':
        teacher = StubTeacher(frozen=scheme in FROZEN, norm=False)
        torch.manual_seed(11)
        for parameter in teacher.parameters():
            nn.init.normal_(parameter, std=0.4)
        teacher.neck.dropout = (0, 0)
    model = make(
        heads,
        teacher=teacher,
        norm=False,
        dropout=(0, 0),
        momentum=0.9 if scheme == 'disco' else None,
    )
    rank, world = dist.get_rank(), dist.get_world_size()
    wrapper = MMDistributedDataParallel(model) if world > 1 else model
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizers = dict(
        sgd=lambda: torch.optim.SGD(
            parameters, lr=0.2, momentum=0.9, weight_decay=1e-3
        ),
        adamw=lambda: torch.optim.AdamW(parameters, lr=1e-3, eps=1e-3),
        larc=lambda: LARC(parameters, lr=0.6, momentum=0.9, weight_decay=1e-6),
    )
    optim_wrapper = OptimWrapper(optimizers[optimizer]())
    logs = []
    for iteration in range(iterations):
        views = [
            view.tensor_split(world)[rank]
            for view in make_views(seed=iteration)
        ]
        log = wrapper.train_step(
            dict(inputs=views, data_samples=None), optim_wrapper
        )
        logs.append({key: float(value) for key, value in log.items()})
    return model.state_dict(), logs


@pytest.mark.dist
@pytest.mark.parametrize(
    ('scheme', 'optimizer'),
    [
        ('oss', 'larc'),
        ('oss', 'sgd'),
        ('oss', 'adamw'),
        ('swav', 'sgd'),
        ('offline', 'sgd'),
        ('seed', 'sgd'),
        ('disco', 'sgd'),
    ],
)
def test_steps_do_not_depend_on_the_number_of_processes(
    two_processes, scheme, optimizer
):
    alone, logs = take_steps(scheme, optimizer)
    untrained, _ = take_steps(scheme, optimizer, iterations=0)
    (first, logs0), (second, logs1) = two_processes(
        take_steps, scheme, optimizer
    )
    assert first.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(
            first[name], value, rtol=1e-4, atol=1e-5, msg=name
        )
        assert torch.equal(first[name], second[name]), name
    moved = {
        name
        for name, value in alone.items()
        if not torch.equal(value, untrained[name])
    }
    assert 'backbone.stem.weight' in moved
    if scheme not in ('seed', 'disco'):
        assert 'heads.clustering.prototypes.weight' in moved
    queue = dict(offline=None, seed='similarity.queue', disco='contrast.queue')
    if queue := queue.get(scheme, 'clustering.queues.0'):
        assert f'heads.{queue}.features' in moved
    # the logged losses of the two halves average to those of the whole
    for a, b, whole in zip(logs0, logs1, logs, strict=True):
        for key, value in whole.items():
            assert (a[key] + b[key]) / 2 == pytest.approx(value, rel=1e-4)


# --- inside a runner --------------------------------------------------------


class Images(Dataset):
    """One batch, the same in every iteration."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        views = make_views(rows=1, seed=index)
        return dict(inputs=[v[0] for v in views], data_samples=index)


def run(folder, max_iters, resume=False, stop=None, load_from=None):
    model = make(
        dict(
            clustering=clustering(
                queue_length=N + 1, queue_start=1, freeze_prototypes=2
            ),
            domain={**DOMAIN, 'alpha': 'dann'},
        ),
        dropout=(0, 0),
        momentum=0.9,
    )
    progress = []
    head = model.heads['domain']
    original = head.loss

    def loss(step):
        progress.append(step.progress)
        if stop is not None and len(progress) > stop:
            raise KeyboardInterrupt
        return original(step)

    head.loss = loss
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Images(),
            batch_size=N,
            num_workers=0,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='InfiniteSampler', shuffle=False),
        ),
        train_cfg=dict(by_epoch=False, max_iters=max_iters),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-3)
        ),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=3, by_epoch=False)
        ),
        resume=resume,
        load_from=load_from,
        experiment_name=f'run_{folder.name}_{resume}',
        log_level='ERROR',
        randomness=dict(seed=0),
        default_scope='mmpretrain',
    )
    try:
        runner.train()
    except KeyboardInterrupt:
        pass
    return progress, model.state_dict()


def test_progress_and_resuming_in_a_runner(tmp_path):
    progress, whole = run(tmp_path / 'whole', 6)
    assert progress == [i / 6 for i in range(6)]
    assert dann_ramp(progress[3]) == pytest.approx(0.9866143, abs=1e-7)
    # stopped in the fifth iteration, the checkpoint is that of the third
    progress, stopped = run(tmp_path / 'parts', 6, stop=4)
    assert len(progress) == 5
    progress, resumed = run(tmp_path / 'parts', 6, resume=True)
    assert progress == [3 / 6, 4 / 6, 5 / 6]
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    assert not torch.equal(
        stopped['backbone.stem.weight'], whole['backbone.stem.weight']
    )


@pytest.mark.parametrize('left', ['backbone', 'student', 'half', 'all'])
def test_starting_from_weights_without_a_momentum_student(tmp_path, left):
    """The average begins at the loaded student, not at random weights."""
    state = {k: v.clone() for k, v in make(momentum=0.9).state_dict().items()}
    for index, (key, value) in enumerate(state.items()):
        if value.is_floating_point() and key.startswith(
            ('backbone.', 'neck.', 'momentum.')
        ):
            value.add_(0.01 * (index + 1))
    dropped = dict(
        backbone=('momentum.', 'neck.', 'heads.', 'teacher.'),
        student=('momentum.',),
        half=('momentum.neck.',),
        all=('nothing',),
    )[left]
    given = {k: v for k, v in state.items() if not k.startswith(dropped)}
    torch.save(dict(state_dict=given), tmp_path / 'start.pth')
    _, trained = run(tmp_path / left, 1, load_from=str(tmp_path / 'start.pth'))
    # in the first iteration it is updated by 0.9 m + 0.1 s, before s moves
    for key in (k for k in state if k.startswith('momentum.')):
        own = key.removeprefix('momentum.')
        if 'running' in key or 'tracked' in key:
            continue  # moved by its own forward pass
        if left == 'all':
            expected = 0.9 * given[key] + 0.1 * given[own]
        elif own in given:
            expected = given[own]
        else:  # of the initialised student, which has moved a step since
            continue
        torch.testing.assert_close(trained[key], expected, msg=key)


def test_a_resume_still_misses_its_momentum_student():
    model = make(momentum=0.9)
    state = model.state_dict()
    given = {k: v for k, v in state.items() if not k.startswith('momentum.')}
    with pytest.raises(RuntimeError, match='Missing key.*momentum'):
        model.load_state_dict(given)
    missing = model.load_state_dict(given, strict=False).missing_keys
    assert {k.split('.')[0] for k in missing} == {'momentum'}
