"""Heads of DisCo, Reg, RKD and AT: which rows meet, and by what factor."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.heads import (
    AttentionTransferHead,
    EmbeddingHead,
    RelationHead,
)
from mmssd.models.losses import (
    attention_transfer,
    embedding_mse,
    relation_angle,
    relation_distance,
)
from mmssd.models.necks.mlp_neck import MLPNeck
from mmssd.models.utils.plan import SetupError
from mmssd.models.utils.step import Encodings, Step

N, D = 5, 4


def rows(count, width=D):
    return [torch.randn(N, width) for _ in range(count)]


def step(views=3, num_global=2, student=D, teacher=D, field='embeddings'):
    return Step(
        student=Encodings(**{field: rows(views, student)}),
        teacher=Encodings(**{field: rows(views, teacher)}),
        num_global=num_global,
    )


# --- EmbeddingHead ----------------------------------------------------------


@pytest.mark.parametrize(
    ('arguments', 'views', 'factor'),
    [
        (dict(), 2, 32.0),  # DisCo: both crops count one each
        (dict(weight=1.0), 2, 1.0),
        (dict(reduction='mean'), 2, 0.5),
        (dict(views='all'), 3, 32.0),
        (dict(views='all', weight=1.0), 3, 1.0),
    ],
)
def test_crops_and_factors(arguments, views, factor):
    given = step()
    loss = EmbeddingHead(**arguments).loss(given)
    expected = sum(
        embedding_mse(given.student.embeddings[v], given.teacher.embeddings[v])
        for v in range(views)
    )
    assert list(loss) == ['loss_embedding']
    torch.testing.assert_close(loss['loss_embedding'], factor * expected)


def test_published_weight_is_that_of_discos_form_alone():
    widths = dict(field='features', student_dim=3, teacher_dim=D)
    for arguments in (
        dict(raw_target=True),
        dict(reduction='mean'),
        widths,
        dict(widths, norm='bn'),
    ):
        assert EmbeddingHead(**arguments).weight == 1.0
    assert EmbeddingHead().weight == 32.0
    assert EmbeddingHead(weight=0.0).weight == 0.0


def test_published_term_on_swav():
    given = step()
    head = EmbeddingHead(
        views='all', reduction='mean', raw_target=True, weight=0.5 / D
    )
    s = F.normalize(torch.cat(given.student.embeddings), dim=1)
    t = torch.cat(given.teacher.embeddings)
    # half of the mean over all crops, images and elements
    torch.testing.assert_close(
        head.loss(given)['loss_embedding'], F.mse_loss(s, t) / 2
    )


def test_teacher_views_are_those_that_are_read():
    assert EmbeddingHead().needs.teacher_views == 'global'
    assert EmbeddingHead().needs.student_views == 'global'
    assert EmbeddingHead(views='all').needs.teacher_views == 'all'
    assert EmbeddingHead(field='features').needs.student == {'features'}
    for head in (RelationHead(), AttentionTransferHead()):
        assert head.needs.student_views == head.needs.teacher_views == (0,)


def test_regression_of_features():
    head = EmbeddingHead('features', student_dim=3, teacher_dim=D)
    given = step(1, 1, student=3, field='features')
    loss = head.loss(given)['loss_embedding']
    mapped = F.linear(
        given.student.features[0], head.projector.weight, head.projector.bias
    )
    torch.testing.assert_close(
        loss, embedding_mse(mapped, given.teacher.features[0])
    )
    loss.backward()
    assert head.projector.weight.grad.abs().sum() > 0


def test_regression_after_batch_norm():
    head = EmbeddingHead('features', student_dim=3, teacher_dim=D, norm='bn')
    given = step(1, 1, student=3, field='features')
    loss = head.loss(given)['loss_embedding']
    sides = []
    for x in (
        head.projector(given.student.features[0]),
        given.teacher.features[0],
    ):
        variance = x.var(dim=0, unbiased=False)
        sides.append((x - x.mean(0)) / (variance + 1e-5).sqrt())
    torch.testing.assert_close(loss, (sides[0] - sides[1]).square().mean())
    assert not [name for name, _ in head.norms.named_parameters()]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(field='logits'), "field='logits'"),
        (dict(norm='none'), "norm='none'"),
        (dict(reduction='max'), "reduction='max'"),
        (dict(views='first'), "views='first'"),
        (dict(student_dim=3), 'give both'),
        (dict(norm='bn'), 'needs student_dim and teacher_dim'),
        (dict(weight=-1.0), 'weight=-1.0'),
        (
            dict(norm='bn', student_dim=3, teacher_dim=3, raw_target=True),
            "raw_target=True is of norm='l2'",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(type='mmpretrain.EmbeddingHead', **arguments))


def test_widths_that_do_not_fit():
    for arguments, message in (
        (dict(student_dim=2, teacher_dim=D), 'student_dim=2 .* width 4'),
        (dict(student_dim=D, teacher_dim=2), 'teacher_dim=2 .* width 4'),
    ):
        head = EmbeddingHead('features', **arguments)
        with pytest.raises(SetupError, match=message):
            head.loss(step(1, 1, field='features'))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(), 'the student gives width 4, that of the teacher 3'),
        (dict(student_dim=5, teacher_dim=3), 'student_dim=5 .* width 4'),
        (dict(student_dim=4, teacher_dim=5), 'teacher_dim=5 .* width 3'),
    ],
)
def test_projectors_that_do_not_fit(arguments, message):
    """Refused as the model is built, not by the first batch."""

    def build(**arguments):
        return Distiller(
            backbone=nn.Conv2d(3, 6, 1),
            neck=MLPNeck(6, 2, 4),
            teacher=Teacher(
                nn.Conv2d(3, 6, 1), MLPNeck(6, 2, 3), checkpoint='given'
            ),
            heads=dict(pull=dict(type='EmbeddingHead', **arguments)),
        )

    with pytest.raises(ValueError, match=f"head 'pull': .*{message}"):
        build(**arguments)
    loss = build(student_dim=4, teacher_dim=3).loss([torch.ones(2, 3, 1, 1)])
    assert loss['pull.loss_embedding'].isfinite()


# --- RelationHead and AttentionTransferHead ---------------------------------


def test_relations_of_unit_rows_of_the_first_crop():
    given = step()
    s = F.normalize(given.student.embeddings[0], dim=1)
    t = F.normalize(given.teacher.embeddings[0], dim=1)
    terms = RelationHead(angle_weight=2.0).loss(given)
    assert set(terms) == {'loss_distance', 'loss_angle'}
    torch.testing.assert_close(terms['loss_distance'], relation_distance(s, t))
    torch.testing.assert_close(terms['loss_angle'], 2 * relation_angle(s, t))
    assert set(RelationHead(distance_weight=0).loss(given)) == {'loss_angle'}
    with pytest.raises(ValueError, match='not both 0'):
        RelationHead(0, 0)


def test_relations_stay_in_float64():
    s, t = rows(1)[0].double(), rows(1)[0].double()
    step = Step(
        student=Encodings(embeddings=[s]), teacher=Encodings(embeddings=[t])
    )
    terms = RelationHead().loss(step)
    s, t = F.normalize(s, dim=1), F.normalize(t, dim=1)
    for name, function in (
        ('loss_distance', relation_distance),
        ('loss_angle', relation_angle),
    ):
        assert terms[name].dtype == torch.float64
        torch.testing.assert_close(
            terms[name], function(s, t), rtol=1e-12, atol=0
        )


def maps(channels):
    return [
        (torch.randn(2, channels, 4, 4), torch.randn(2, 2 * channels, 2, 2))
        for _ in range(2)
    ]


def test_attention_of_the_stages():
    given = Step(
        student=Encodings(feature_maps=maps(3)),
        teacher=Encodings(feature_maps=maps(5)),
        num_global=2,
    )
    s, t = given.student.feature_maps[0], given.teacher.feature_maps[0]
    last = AttentionTransferHead().loss(given)['loss_attention']
    torch.testing.assert_close(last, attention_transfer(s[1], t[1]))
    both = AttentionTransferHead((0, 1), weight=3.0).loss(given)
    expected = attention_transfer(s[0], t[0]) + attention_transfer(s[1], t[1])
    torch.testing.assert_close(both['loss_attention'], 3 * expected / 2)
    with pytest.raises(SetupError, match=r'stages=\(2,\).*2 output'):
        AttentionTransferHead((2,)).loss(given)
    with pytest.raises(ValueError, match='stages is empty'):
        AttentionTransferHead(())


@pytest.mark.parametrize('shape', [(2, 5), (2, 9, 5)])
@pytest.mark.parametrize('name', ['student', 'teacher'])
def test_attention_of_vectors(name, shape):
    given = Step(
        **{
            network: Encodings(feature_maps=[(torch.ones(2, 3, 4, 4),)])
            for network in {'student', 'teacher'} - {name}
        },
        **{name: Encodings(feature_maps=[(torch.ones(shape),)])},
    )
    with pytest.raises(SetupError) as error:
        AttentionTransferHead().loss(given)
    said = str(error.value)
    assert f'backbone of the {name} gives vectors or tokens' in said
    assert str(shape) in said and 'take another backbone' in said


def vit(**kwargs):
    arch = dict(
        embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8
    )
    return VisionTransformer(arch, img_size=32, patch_size=16, **kwargs)


@pytest.mark.parametrize('name', ['student', 'teacher'])
def test_attention_of_a_transformer_that_gives_its_class_token(name):
    """Refused as the model is built, before a teacher is loaded."""
    networks = dict(student=vit(out_type='featmap'))
    networks['teacher'] = vit(out_type='featmap')
    networks[name] = vit()

    def build():
        return Distiller(
            backbone=networks['student'],
            teacher=Teacher(networks['teacher'], checkpoint='given'),
            heads=dict(attention=dict(type='AttentionTransferHead')),
        )

    with pytest.raises(ValueError, match='compares maps') as error:
        build()
    assert f"{name}, VisionTransformer with out_type='cls_token'" in str(
        error.value
    )
    networks[name] = vit(out_type='featmap')
    loss = build().loss([torch.randn(2, 3, 32, 32)])
    assert loss['attention.loss_attention'].isfinite()
