import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from mmssd.models.distillers.encodings import by_resolution, encode
from mmssd.models.necks.dropout_projection_neck import DropoutProjectionNeck

N, C, D = 3, 6, 4
EMBEDDINGS = frozenset({'embeddings'})


class Backbone(nn.Module):
    """Two stages; the shapes it was called with are kept."""

    def __init__(self, form='tuple'):
        super().__init__()
        self.form = form
        self.stem = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.stage = nn.Conv2d(5, C, 3, padding=1)
        self.calls = []

    def forward(self, x):
        self.calls.append(tuple(x.shape))
        stem = self.stem(x).relu()
        stage = self.stage(stem).relu()
        return {
            'tuple': (stem, stage),
            'map': stage,
            'vector': stage.mean((2, 3)),
        }[self.form]


def make_views(sizes=(8, 8, 4, 4)):
    return [torch.randn(N, 3, size, size) for size in sizes]


def make_neck(dropout=(0.0, 0.0)):
    return DropoutProjectionNeck(C, 7, D, dropout=dropout)


def test_views_of_equal_shape_form_a_group():
    assert by_resolution(make_views((8, 8, 4, 4, 4))) == [[0, 1], [2, 3, 4]]
    assert by_resolution(make_views((8, 4, 8, 4))) == [[0, 2], [1, 3]]
    assert by_resolution(make_views((8,))) == [[0]]


@pytest.mark.parametrize('sizes', [(8, 8, 4, 4), (8, 4, 8, 4), (8, 8), (8,)])
def test_embeddings_are_crop_major(sizes):
    backbone, neck, views = Backbone(), make_neck(), make_views(sizes)
    neck.eval()  # rows do not depend on each other then
    encodings = encode(backbone, neck, views, EMBEDDINGS)
    assert len(encodings.embeddings) == len(views)
    for view, embedding in zip(views, encodings.embeddings, strict=True):
        expected = neck(backbone(view))[0]
        torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=1e-6)


def test_backbone_runs_once_per_resolution():
    backbone = Backbone()
    encode(backbone, make_neck(), make_views((8, 4, 8, 4, 4)), EMBEDDINGS)
    assert backbone.calls == [(2 * N, 3, 8, 8), (3 * N, 3, 4, 4)]


def test_each_view_in_a_batch_of_its_own():
    backbone, neck, views = Backbone(), make_neck(), make_views((8, 8, 4))
    neck.train()
    encodings = encode(
        backbone,
        neck,
        views,
        EMBEDDINGS | {'dropout_embeddings'},
        separate=True,
    )
    assert backbone.calls == [(N, 3, 8, 8), (N, 3, 8, 8), (N, 3, 4, 4)]
    for view, plain, dropped in zip(
        views,
        encodings.embeddings,
        encodings.dropout_embeddings,
        strict=True,
    ):
        # batch statistics of one view; rates are zero
        expected = neck(backbone(view))[0]
        torch.testing.assert_close(plain, expected)
        torch.testing.assert_close(dropped, expected)


def test_projector_sees_all_crops_in_one_batch():
    backbone, neck, views = Backbone(), make_neck(), make_views()
    calls = []
    neck.register_forward_hook(lambda *_: calls.append(1))
    encodings = encode(backbone, neck, views, EMBEDDINGS)
    assert len(calls) == 1
    features = torch.cat([backbone(view)[-1].mean((2, 3)) for view in views])
    neck.bn0.reset_running_stats()
    torch.testing.assert_close(
        torch.cat(encodings.embeddings),
        neck(features)[0],
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize('form', ['tuple', 'map', 'vector'])
def test_forms_of_backbone_output(form):
    torch.manual_seed(1)
    backbone, neck = Backbone(form), make_neck()
    views = make_views()
    encodings = encode(backbone, neck, views, EMBEDDINGS)
    backbone.form = 'tuple'
    expected = encode(backbone, neck, views, EMBEDDINGS)
    torch.testing.assert_close(
        torch.cat(encodings.embeddings), torch.cat(expected.embeddings)
    )


def test_only_what_is_asked_for():
    backbone, neck, views = Backbone(), make_neck(), make_views()

    def filled(*fields):
        encodings = encode(backbone, neck, views, frozenset(fields))
        names = {name for name, value in vars(encodings).items() if value}
        assert all(len(getattr(encodings, n)) == len(views) for n in names)
        return names

    assert filled('features') == {'features'}
    assert filled('feature_maps') == {'feature_maps'}
    assert filled('embeddings') == {'embeddings'}
    both = {'embeddings', 'dropout_embeddings'}
    assert filled(*both) == both
    assert filled('dropout_embeddings') == both
    calls = []
    neck.fc0.register_forward_hook(lambda *_: calls.append(1))
    filled('features')
    assert not calls


def test_dropout_embeddings():
    backbone, neck, views = Backbone(), make_neck((0.0, 0.5)), make_views()
    encodings = encode(
        backbone, neck, views, frozenset({'embeddings', 'dropout_embeddings'})
    )
    pairs = zip(
        encodings.embeddings, encodings.dropout_embeddings, strict=True
    )
    for plain, thinned in pairs:
        kept = thinned != 0
        torch.testing.assert_close(thinned[kept], 2 * plain[kept])
    assert not torch.cat(encodings.dropout_embeddings).all()


def test_features_and_maps_of_each_view():
    backbone, views = Backbone(), make_views()
    encodings = encode(
        backbone, None, views, frozenset({'features', 'feature_maps'})
    )
    for v, view in enumerate(views):
        stages = backbone(view)
        assert len(encodings.feature_maps[v]) == 2
        for own, expected in zip(
            encodings.feature_maps[v], stages, strict=True
        ):
            torch.testing.assert_close(own, expected)
        torch.testing.assert_close(
            encodings.features[v], stages[-1].mean((2, 3))
        )


def test_without_neck_the_features_are_the_embeddings():
    backbone, views = Backbone(), make_views()
    encodings = encode(
        backbone, None, views, frozenset({'features', 'embeddings'})
    )
    for feature, embedding in zip(
        encodings.features, encodings.embeddings, strict=True
    ):
        assert torch.equal(feature, embedding)


@pytest.mark.parametrize(
    'config',
    [
        dict(type='NonLinearNeck', in_channels=C, hid_channels=7),
        dict(
            type='MoCoV2Neck',
            in_channels=C,
            hid_channels=7,
            with_avg_pool=True,
        ),
        dict(type='LinearNeck', in_channels=C, gap_dim=2),
    ],
)
def test_necks_of_mmpretrain(config):
    if config['type'] == 'NonLinearNeck':
        config = {**config, 'norm_cfg': dict(type='BN1d')}
    backbone, views = Backbone(), make_views()
    neck = MODELS.build({**config, 'out_channels': D})
    neck.eval()
    encodings = encode(backbone, neck, views, EMBEDDINGS)
    for view, embedding in zip(views, encodings.embeddings, strict=True):
        assert embedding.shape == (N, D)
        expected = neck(backbone(view)[-1:])
        torch.testing.assert_close(
            embedding,
            expected[-1] if isinstance(expected, tuple) else expected,
            rtol=1e-4,
            atol=1e-6,
        )


def test_gradient_reaches_every_view():
    backbone, neck, views = Backbone(), make_neck(), make_views()
    views = [view.requires_grad_() for view in views]
    encodings = encode(backbone, neck, views, EMBEDDINGS)
    torch.cat(encodings.embeddings).square().sum().backward()
    assert all(view.grad.any() for view in views)


def test_logits_and_maps_before_the_relu_by_view():
    backbone = MODELS.build(
        dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
    )
    backbone.eval()
    neck = MODELS.build(dict(type='GlobalAveragePooling'))
    head = MODELS.build(
        dict(type='LinearClsHead', num_classes=7, in_channels=32)
    )
    views = make_views((64, 32, 64))
    fields = frozenset({'logits', 'pre_relu_maps'})
    encodings = encode(backbone, neck, views, fields, head=head)
    assert not encodings.features and not encodings.embeddings
    for index, view in enumerate(views):
        (end,) = backbone(view)
        torch.testing.assert_close(
            encodings.logits[index], head.fc(end.mean((2, 3)))
        )
        maps = encodings.pre_relu_maps[index]
        assert [m.size(1) for m in maps] == [4, 8, 16, 32]
        torch.testing.assert_close(maps[-1].relu(), end)
