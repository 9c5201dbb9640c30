"""Published layouts: every key used once, features of the original."""

from functools import partial

import pytest
import timm
import torch
import torchvision
from mmpretrain.models.backbones import (
    EfficientNet,
    MobileNetV2,
    MobileNetV3,
    ResNet,
    TIMMBackbone,
    VisionTransformer,
)
from mmpretrain.models.necks import (
    LinearNeck,
    MoCoV2Neck,
    NonLinearNeck,
    SwAVNeck,
)
from torch import nn

from mmssd.models.distillers.encodings import encode
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.necks.dino_projection_neck import DINOProjectionNeck
from mmssd.models.necks.dropout_projection_neck import DropoutProjectionNeck
from mmssd.models.utils.checkpoint import CheckpointError
from mmssd.models.utils.layouts import (
    LAYOUTS,
    find_weights,
    map_weights,
    recognise,
)

# features of the narrow ResNet-18 below, hidden layer, embedding
C, H, D = 64, 6, 5
BN = dict(type='BN1d')


def randomise(module, seed=0):
    """Give every tensor a value of its own, that keeps features alive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            drawn = torch.rand(value.shape, generator=generator)
            if value.dim() > 1 and 'pos' not in key and 'cls' not in key:
                fan = value[0].numel()
                value.copy_((drawn - 0.5) * (12 / fan) ** 0.5)
            else:  # statistics, affine parameters, tokens
                value.copy_(drawn + 0.5)
    return module.double().eval()


def narrow():
    """A ResNet-18 with the keys of torchvision, an eighth as wide."""
    return timm.models.resnet.ResNet(
        timm.models.resnet.BasicBlock,
        layers=(2, 2, 2, 2),
        channels=(8, 16, 32, 64),
        num_classes=4,
    )


@pytest.fixture(scope='module')
def tv():
    return randomise(narrow())


def resnet():
    return ResNet(depth=18, base_channels=8)


def sequential(*widths, norm=False, act=nn.ReLU, seed=1):
    """The published heads, restated: fc - [bn] - act - fc."""
    layers = []
    for index, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
        layers.append(nn.Linear(a, b))
        if index < len(widths) - 2:
            layers += [nn.BatchNorm1d(b)] if norm else []
            layers.append(act())
    return randomise(nn.Sequential(*layers), seed)


def trunk(model, prefix=''):
    return {
        prefix + key: value
        for key, value in model.state_dict().items()
        if not key.startswith(('fc.', 'classifier.', 'head.'))
    }


def named(module, prefix):
    return {prefix + k: v for k, v in module.state_dict().items()}


def images(size=32, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 3, size, size, generator=generator).double()


def tv_features(model, x):
    return model.forward_features(x).mean(dim=(2, 3))


def load(tmp_path, content, layout, backbone, neck=None, prefix=''):
    """Load a file as a teacher does, in float64."""
    path = tmp_path / 'file.pth'
    torch.save(content, path)
    teacher = Teacher(
        backbone, neck, checkpoint=str(path), layout=layout, prefix=prefix
    ).double()
    teacher.init_weights()
    return teacher


def encodings(teacher, x):
    found = encode(
        teacher.backbone,
        teacher.neck,
        [x],
        frozenset(['features', 'embeddings']),
    )
    return found.features[0], found.embeddings[0]


def assert_used_once(content, layout, backbone, neck=None, prefix=''):
    """All keys of the backbone, each from a key of its own."""
    weights = find_weights(content)
    parts, _ = map_weights(weights, layout, backbone, neck, prefix)
    for name, module in (('backbone.', backbone), ('neck.', neck)):
        if module is None:
            continue
        own = {name + key for key in module.state_dict()}
        assert {key for key in parts if key.startswith(name)} == own
    sources = [id(v) for k, v in parts.items() if k.startswith('backbone.')]
    assert len(set(sources)) == len(sources)
    file = {id(value) for value in weights.values()}
    assert set(sources) <= file


# --- networks with a projector ----------------------------------------------


def moco_file(tv, head, name='fc.'):
    key = randomise(narrow(), 9)
    state = {
        **trunk(tv, 'module.encoder_q.'),
        **named(head, f'module.encoder_q.{name}'),
        **trunk(key, 'module.encoder_k.'),
        **named(head, f'module.encoder_k.{name}'),
        'module.queue': torch.rand(D, 7),
        'module.queue_ptr': torch.zeros(1, dtype=torch.long),
    }
    return dict(epoch=200, arch='resnet18', state_dict=state, optimizer={})


def simclr_file(tv, head):
    start = 'module.module.module.'
    return dict(state_dict={**trunk(tv, start), **named(head, f'{start}fc.')})


def swav_file(tv, head, prototypes=True):
    state = {
        **trunk(tv, 'module.'),
        **named(head, 'module.projection_head.'),
    }
    if prototypes:
        state['module.prototypes.weight'] = torch.rand(9, D)
    return state


def seed_file(tv, head):
    teacher = randomise(narrow(), 9)
    state = {
        **trunk(tv, 'module.student.'),
        **named(head, 'module.student.fc.'),
        **trunk(teacher, 'module.teacher.'),
        **named(head, 'module.teacher.fc.'),
        'module.queue': torch.rand(D, 7),
        'module.queue_ptr': torch.zeros(1, dtype=torch.long),
    }
    return dict(epoch=1, arch='resnet18', state_dict=state, optimizer={})


def disco_file(tv, head):
    teacher = randomise(narrow(), 9)
    content = moco_file(tv, head)
    content['state_dict'].update(
        trunk(teacher, 'module.teacher_encoder_q.'),
        **named(head, 'module.teacher_encoder_q.fc.'),
    )
    return content


def byol_files(tv, head):
    """The same network as three implementations save it."""
    numbers = {'conv1': 0, 'bn1': 1}
    numbers.update({f'layer{n}': n + 3 for n in range(1, 5)})
    encoder = {}
    for key, value in trunk(tv, '').items():
        top, _, rest = key.partition('.')
        encoder[f'encoder.{numbers[top]}.{rest}'] = value
    steps = dict(zip(('0', '1', '3'), ('l1', 'bn1', 'l2'), strict=True))
    words = {}
    for key, value in head.state_dict().items():
        top, _, rest = key.partition('.')
        words[f'projetion.{steps[top]}.{rest}'] = value
    return {
        'module.online_network.': dict(
            model={
                f'module.online_network.{k}': v
                for k, v in {**encoder, **words}.items()
            }
        ),
        'online_network_state_dict': dict(
            online_network_state_dict={
                **encoder,
                **named(head, 'projetion.net.'),
            },
            target_network_state_dict=dict(encoder),
            optimizer_state_dict={'state': {}},
        ),
        'online_encoder.net.': dict(
            state_dict={
                **trunk(tv, 'online_encoder.net.'),
                **named(tv.fc, 'online_encoder.net.fc.'),
                **named(head, 'online_encoder.projector.'),
                **trunk(tv, 'net.'),
            }
        ),
    }


def mlp_cases():
    plain = dict(
        neck=lambda: MoCoV2Neck(C, H, D),
        norm=False,
    )
    normed = dict(
        neck=lambda: DropoutProjectionNeck(C, H, D),
        norm=True,
    )
    return {
        'moco': (moco_file, plain),
        'simclr': (simclr_file, normed),
        'swav': (swav_file, normed),
        'seed': (seed_file, plain),
        'disco': (disco_file, plain),
        'byol-a': (
            lambda tv, head: byol_files(tv, head)['module.online_network.'],
            normed,
        ),
        'byol-b': (
            lambda tv, head: byol_files(tv, head)['online_network_state_dict'],
            normed,
        ),
        'byol-c': (
            lambda tv, head: byol_files(tv, head)['online_encoder.net.'],
            normed,
        ),
    }


@pytest.mark.parametrize('auto', [False, True], ids=['named', 'auto'])
@pytest.mark.parametrize('case', mlp_cases())
def test_backbone_and_projector(tv, tmp_path, case, auto):
    make, how = mlp_cases()[case]
    head = sequential(C, H, D, norm=how['norm'])
    content = make(tv, head)
    layout = 'auto' if auto else case.partition('-')[0]
    assert_used_once(content, layout, resnet(), how['neck']())
    teacher = load(tmp_path, content, layout, resnet(), how['neck']())
    features, embeddings = encodings(teacher, images())
    wanted = tv_features(tv, images())
    torch.testing.assert_close(features, wanted)
    torch.testing.assert_close(embeddings, head(wanted))


@pytest.mark.parametrize('layout', ['byol', 'auto'])
def test_a_byol_backbone_in_a_dict_of_its_own(tv, tmp_path, layout):
    content = dict(online_backbone=trunk(tv, 'module.'), epoch=3)
    teacher = load(tmp_path, content, layout, resnet())
    torch.testing.assert_close(
        encodings(teacher, images())[0], tv_features(tv, images())
    )


@pytest.mark.parametrize(
    ('neck', 'normalised'),
    [
        (lambda: SwAVNeck(C, H, D, norm_cfg=BN), True),
        (
            lambda: NonLinearNeck(
                C,
                H,
                D,
                with_bias=True,
                with_last_bias=True,
                with_last_bn=False,
                norm_cfg=BN,
            ),
            False,
        ),
    ],
    ids=['SwAVNeck', 'NonLinearNeck'],
)
def test_other_necks_for_the_same_projector(tv, tmp_path, neck, normalised):
    head = sequential(C, H, D, norm=True)
    content = swav_file(tv, head, prototypes=False)
    teacher = load(tmp_path, content, 'swav', resnet(), neck())
    wanted = head(tv_features(tv, images()))
    if normalised:
        wanted = nn.functional.normalize(wanted)
    torch.testing.assert_close(encodings(teacher, images())[1], wanted)


def test_the_projector_without_batch_norm_of_the_widest_swav(tv, tmp_path):
    head = sequential(C, H, D)
    content = swav_file(tv, head)
    neck = DropoutProjectionNeck(C, H, D, norm=False)
    teacher = load(tmp_path, content, 'swav', resnet(), neck)
    torch.testing.assert_close(
        encodings(teacher, images())[1], head(tv_features(tv, images()))
    )


def test_prototypes_by_their_own_key(tv, tmp_path):
    content = swav_file(tv, sequential(C, H, D, norm=True))
    path = tmp_path / 'swav.pth'
    torch.save(content, path)
    teacher = Teacher(
        resnet(),
        checkpoint=str(path),
        layout='swav',
        extra_keys=dict(prototypes='prototypes.weight'),
    )
    teacher.init_weights()
    assert torch.equal(
        teacher.extra('prototypes'), content['module.prototypes.weight']
    )


def linear(seed=1):
    return randomise(nn.Linear(C, D), seed)


@pytest.mark.parametrize('layout', ['moco', 'compress'])
def test_a_single_linear_layer(tv, tmp_path, layout):
    head = linear()
    content = moco_file(tv, head)
    if layout == 'compress':
        content = dict(
            opt={},
            state_dict={
                **trunk(tv, 'module.'),
                **named(head, 'module.fc.'),
            },
        )
    for name in (layout, 'auto'):
        teacher = load(
            tmp_path, content, name, resnet(), LinearNeck(C, D, norm_cfg=None)
        )
        features, embeddings = encodings(teacher, images())
        wanted = tv_features(tv, images())
        torch.testing.assert_close(features, wanted)
        torch.testing.assert_close(embeddings, head(wanted))
    assert_used_once(content, layout, resnet())


def test_a_network_of_the_file_by_name(tv, tmp_path):
    content = seed_file(tv, sequential(C, H, D))
    teacher = load(tmp_path, content, 'seed', resnet(), prefix='teacher.')
    other = randomise(narrow(), 9)
    torch.testing.assert_close(
        encodings(teacher, images())[0], tv_features(other, images())
    )
    with pytest.raises(CheckpointError, match=r"no network 'momentum\.'"):
        load(tmp_path, content, 'seed', resnet(), prefix='momentum.')


@pytest.mark.parametrize('layout', ['mmssd', 'mmpretrain', 'auto'])
@pytest.mark.parametrize('prefix', ['', 'teacher.'])
def test_our_own_keys(tmp_path, layout, prefix):
    source = nn.ModuleDict(
        dict(
            backbone=resnet(),
            neck=MoCoV2Neck(C, H, D),
        )
    )
    randomise(source)
    other = randomise(narrow(), 9)
    content = dict(
        state_dict={
            **named(source, prefix),
            # the other network of the run
            **(
                trunk(other, 'backbone.')
                if prefix
                else trunk(other, 'teacher.backbone.')
            ),
            'heads.a.weight': torch.rand(3),
        }
    )
    teacher = load(
        tmp_path,
        content,
        layout,
        resnet(),
        MoCoV2Neck(C, H, D),
        prefix,
    )
    for part in ('backbone', 'neck'):
        for key, value in getattr(teacher, part).state_dict().items():
            assert torch.equal(value, source[part].state_dict()[key])


# --- DINO -------------------------------------------------------------------


def tiny_vit():
    return timm.models.vision_transformer.VisionTransformer(
        img_size=32,
        patch_size=16,
        embed_dim=192,
        depth=12,
        num_heads=3,
        num_classes=0,
    )


def our_vit():
    return VisionTransformer(
        arch='deit-tiny', img_size=32, patch_size=16, out_type='cls_token'
    )


@pytest.fixture(scope='module')
def vit():
    return randomise(tiny_vit())


def dino_head(norm=False):
    return sequential(192, H, H, D, norm=norm, act=nn.GELU)


def dino_training(backbone, head):
    state = {
        **named(backbone, 'backbone.'),
        **named(head, 'head.mlp.'),
        'head.last_layer.weight_g': torch.ones(9, 1),
        'head.last_layer.weight_v': torch.rand(9, D),
    }
    other = randomise(tiny_vit(), 9)
    return dict(
        student={
            **{f'module.{key}': value for key, value in state.items()},
            **named(other, 'module.backbone.'),
        },
        teacher=state,
        optimizer=dict(state={}, param_groups=[]),
        epoch=100,
        dino_loss=dict(center=torch.zeros(1, 9)),
    )


def cls_token(model, x):
    return model.forward_features(x)[:, 0]


@pytest.mark.parametrize('layout', ['dino', 'auto', 'timm'])
def test_dino_backbone_of_a_vision_transformer(vit, tmp_path, layout):
    content = dict(vit.state_dict())
    assert_used_once(content, layout, our_vit())
    teacher = load(tmp_path, content, layout, our_vit())
    torch.testing.assert_close(
        encodings(teacher, images())[0], cls_token(vit, images())
    )


@pytest.mark.parametrize('layout', ['dino', 'auto', 'torchvision'])
def test_dino_backbone_of_a_resnet(tv, tmp_path, layout):
    teacher = load(tmp_path, trunk(tv), layout, resnet())
    torch.testing.assert_close(
        encodings(teacher, images())[0], tv_features(tv, images())
    )


@pytest.mark.parametrize('norm', [False, True])
@pytest.mark.parametrize('layout', ['dino', 'auto'])
def test_dino_training(vit, tmp_path, layout, norm):
    head = dino_head(norm)
    content = dino_training(vit, head)
    neck = DINOProjectionNeck(192, H, D, norm=norm)
    assert_used_once(content, layout, our_vit(), neck)
    teacher = load(tmp_path, content, layout, our_vit(), neck)
    features, embeddings = encodings(teacher, images())
    wanted = cls_token(vit, images())
    torch.testing.assert_close(features, wanted)
    torch.testing.assert_close(
        embeddings, nn.functional.normalize(head(wanted), dim=1)
    )
    # without projector, and the student instead
    student = load(tmp_path, content, layout, our_vit(), prefix='student.')
    torch.testing.assert_close(
        encodings(student, images())[0],
        cls_token(randomise(tiny_vit(), 9), images()),
    )


# --- backbones of torchvision and timm --------------------------------------


def maps_equal(teacher, wanted, size=64):
    got = teacher.backbone(images(size))[-1]
    torch.testing.assert_close(got, wanted)


def test_torchvision_resnet(tv, tmp_path):
    content = dict(tv.state_dict())
    assert_used_once(content, 'torchvision', resnet())
    for layout in ('torchvision', 'timm', 'auto'):
        teacher = load(tmp_path, content, layout, resnet())
        torch.testing.assert_close(
            encodings(teacher, images())[0], tv_features(tv, images())
        )


def resnet_maps(model, x):
    return nn.Sequential(*list(model.children())[:-2])(x)


PLAIN = dict(conv_cfg=None, norm_cfg=dict(type='BN', eps=1e-5))
TORCHVISION = {
    'resnet18': lambda: ResNet(18),
    'mobilenet_v2': lambda: MobileNetV2(),
    'mobilenet_v3_large': lambda: MobileNetV3('large'),
    'mobilenet_v3_small': lambda: MobileNetV3('small'),
    'efficientnet_b0': lambda: EfficientNet('b0', **PLAIN),
    'efficientnet_b1': lambda: EfficientNet('b1', **PLAIN),
}


@pytest.mark.parametrize('name', TORCHVISION)
def test_torchvision_networks(name, tmp_path):
    model = randomise(torchvision.models.get_model(name))
    content = dict(model.state_dict())
    assert_used_once(content, 'torchvision', TORCHVISION[name]())
    for layout in ('torchvision', 'auto'):
        teacher = load(tmp_path, content, layout, TORCHVISION[name]())
        features = getattr(model, 'features', partial(resnet_maps, model))
        maps_equal(teacher, features(images(64)))


TF = dict(norm_cfg=dict(type='BN', eps=1e-3))
MOBILE_TIMM = dict(norm_cfg=dict(type='BN', eps=1e-5))
TIMM_MODELS = {
    'resnet18': lambda: ResNet(18),
    'efficientnet_b0': lambda: EfficientNet('b0', **PLAIN),
    'efficientnet_b1': lambda: EfficientNet('b1', **PLAIN),
    'tf_efficientnet_b0': lambda: EfficientNet('b0', **TF),
    'mobilenetv2_100': lambda: MobileNetV2(),
    'mobilenetv3_large_100': lambda: MobileNetV3('large', **MOBILE_TIMM),
}


def last_map(model, x):
    if hasattr(model, 'conv_head') and type(model).__name__ == 'MobileNetV3':
        return model.blocks(model.bn1(model.conv_stem(x)))
    return model.forward_features(x)


@pytest.mark.parametrize('name', TIMM_MODELS)
def test_timm_networks(name, tmp_path):
    model = randomise(timm.create_model(name))
    content = dict(model.state_dict())
    assert_used_once(content, 'timm', TIMM_MODELS[name]())
    for layout in ('timm', 'auto'):
        teacher = load(tmp_path, content, layout, TIMM_MODELS[name]())
        maps_equal(teacher, last_map(model, images(64)))


WRAPPED = {
    'resnet18': {},
    'resnet10t': dict(features_only=True, out_indices=(2, 3)),
    'regnety_002': {},
    'convnext_atto': dict(features_only=True),
    'mobilenetv3_small_050': dict(features_only=True),
    'test_efficientnet': dict(features_only=True, out_indices=(3,)),
    'test_vit': dict(features_only=True, out_indices=(-1,)),
}


@pytest.mark.parametrize('name', WRAPPED)
def test_timm_backbone(name, tmp_path):
    def wrapped():
        return TIMMBackbone(model_name=name, **WRAPPED[name])

    model = randomise(timm.create_model(name))
    content = dict(model.state_dict())
    for layout in ('timm', 'auto'):
        teacher = load(tmp_path, content, layout, wrapped())
        size = 160 if 'vit' in name else 64
        got = teacher.backbone(images(size))
        if WRAPPED[name]:
            same = timm.create_model(name, **WRAPPED[name]).double().eval()
            weights = teacher.backbone.timm_model.state_dict()
            same.load_state_dict(weights)
            wanted = tuple(same(images(size)))
            whole = model.forward_intermediates(
                images(size), intermediates_only=True
            )
            torch.testing.assert_close(got[-1], wanted[-1])
            alike = [w for w in whole if w.shape == got[-1].shape]
            torch.testing.assert_close(got[-1], alike[-1])
        else:
            torch.testing.assert_close(
                got[0], model.forward_features(images(size))
            )
    assert_used_once(content, 'timm', wrapped())


def test_published_projectors_for_a_network_of_timm(tv, tmp_path):
    head = sequential(C, H, D)
    teacher = load(
        tmp_path,
        moco_file(tv, head),
        'moco',
        TIMMBackbone(model_name='resnet18', channels=(8, 16, 32, 64)),
        MoCoV2Neck(C, H, D),
    )
    torch.testing.assert_close(
        encodings(teacher, images())[1], head(tv_features(tv, images()))
    )


# --- what does not fit ------------------------------------------------------


def refused(tmp_path, content, layout, backbone, neck=None):
    path = tmp_path / 'file.pth'
    torch.save(content, path)
    teacher = Teacher(backbone, neck, checkpoint=str(path), layout=layout)
    before = [p.clone() for p in teacher.parameters()]
    with pytest.raises(CheckpointError) as error:
        teacher.init_weights()
    assert 'file.pth' in str(error.value)
    for old, new in zip(before, teacher.parameters(), strict=True):
        assert torch.equal(old, new)
    return str(error.value)


@pytest.mark.parametrize('neck', [None, lambda: MoCoV2Neck(C, H, D)])
def test_a_swav_file_given_as_moco(tv, tmp_path, neck):
    content = swav_file(tv, sequential(C, H, D, norm=True))
    message = refused(tmp_path, content, 'moco', resnet(), neck and neck())
    assert "no key begins with 'encoder_q.' or 'encoder_k.'" in message
    assert "it looks like layout='swav' (SwAV)" in message
    assert 'projection_head.* (' in message


@pytest.mark.parametrize('layout', ['simclr', 'torchvision', 'compress'])
def test_a_swav_file_given_as_a_flat_one(tv, tmp_path, layout):
    content = swav_file(tv, sequential(C, H, D, norm=True))
    message = refused(tmp_path, content, layout, resnet())
    assert "it looks like layout='swav' (SwAV)" in message
    assert 'surplus key(s): projection_head.0.weight' in message


def test_a_moco_file_given_as_swav_and_as_ours(tv, tmp_path):
    content = moco_file(tv, sequential(C, H, D))
    message = refused(tmp_path, content, 'swav', resnet())
    assert "it looks like layout='moco' (MoCo v1 and v2)" in message
    message = refused(tmp_path, content, 'mmssd', resnet())
    assert "another layout; it looks like layout='moco'" in message


def test_a_projector_of_another_width(tv, tmp_path):
    content = moco_file(tv, sequential(C, H, D))
    message = refused(
        tmp_path, content, 'moco', resnet(), MoCoV2Neck(C, H + 1, D)
    )
    assert 'its projector has another width' in message
    assert 'it is linear 64 -> 6, linear 6 -> 5;' in message
    assert 'MoCoV2Neck of the config is linear 64 -> 7, linear 7 -> 5' in (
        message
    )


def test_a_projector_of_other_layers(tv, tmp_path):
    content = swav_file(tv, sequential(C, H, D, norm=True))
    message = refused(tmp_path, content, 'swav', resnet(), MoCoV2Neck(C, H, D))
    assert 'its projector has other layers' in message
    assert 'linear 64 -> 6, norm 6, linear 6 -> 5;' in message


def test_no_projector(tv, tmp_path):
    neck = DINOProjectionNeck(C, H, D)
    message = refused(tmp_path, trunk(tv), 'dino', resnet(), neck)
    assert 'holds no projector for the DINOProjectionNeck' in message


def test_biases_that_the_neck_lacks(tv, tmp_path):
    content = swav_file(tv, sequential(C, H, D, norm=True))
    neck = NonLinearNeck(C, H, D, with_last_bn=False, norm_cfg=BN)
    message = refused(tmp_path, content, 'swav', resnet(), neck)
    assert '2 surplus key(s): neck.fc0.bias, neck.fc1.bias' in message


def test_missing_and_surplus_keys(tv, tmp_path):
    content = moco_file(tv, sequential(C, H, D))
    state = content['state_dict']
    state['module.encoder_q.more.weight'] = torch.ones(2)
    del state['module.encoder_q.layer1.0.conv1.weight']
    message = refused(tmp_path, content, 'moco', resnet())
    assert '1 missing key(s): backbone.layer1.0.conv1.weight' in message
    assert '1 surplus key(s): backbone.more.weight' in message
    message = refused(tmp_path, content, 'auto', resnet())
    assert '1 surplus key(s): backbone.more.weight' in message


def test_another_depth(tv, tmp_path):
    message = refused(tmp_path, dict(tv.state_dict()), 'auto', ResNet(34))
    assert 'missing key(s): backbone.layer1.2.conv1.weight' in message


@pytest.mark.parametrize(
    ('backbone', 'name', 'said'),
    [
        (lambda: ResNet(50, style='caffe'), 'resnet50', "style='caffe'"),
        (lambda: EfficientNet('b0'), 'efficientnet_b0', 'eps=0.001'),
        (
            lambda: EfficientNet('b0', norm_cfg=dict(type='BN', eps=1e-5)),
            'efficientnet_b0',
            'conv_cfg=None',
        ),
        (
            lambda: MobileNetV3('large', norm_cfg=dict(type='BN')),
            'mobilenet_v3_large',
            'set norm_cfg=dict(type=..., eps=0.001)',
        ),
    ],
)
def test_settings_that_keys_do_not_show(backbone, name, said, tmp_path):
    content = dict(torchvision.models.get_model(name).state_dict())
    assert said in refused(tmp_path, content, 'torchvision', backbone())


def test_nothing_known(tmp_path):
    content = {f'blob.{i}': torch.ones(1) for i in range(3)}
    message = refused(tmp_path, content, 'auto', resnet())
    assert "layout='auto' recognises no layout" in message
    assert 'blob.* (3)' in message and "'byol', 'compress'" in message


def test_two_layouts_that_differ(tv, tmp_path):
    content = dict(
        state_dict={
            **seed_file(tv, linear())['state_dict'],
            **moco_file(randomise(narrow(), 4), linear())['state_dict'],
        }
    )
    message = refused(tmp_path, content, 'auto', resnet())
    assert "recognises ['moco', 'seed'], which read it differently" in message


def test_marks(tv, vit):
    """No file of one layout passes for another that reads it otherwise."""
    normed, plain = sequential(C, H, D, norm=True), sequential(C, H, D)
    for content, wanted in (
        (moco_file(tv, plain), ['moco']),
        (simclr_file(tv, normed), ['simclr']),
        (swav_file(tv, normed), ['swav']),
        (seed_file(tv, plain), ['seed']),
        (disco_file(tv, plain), ['disco']),
        (dino_training(vit, dino_head()), ['dino']),
        (dict(vit.state_dict()), ['dino', 'timm']),
        (dict(tv.state_dict()), ['compress', 'torchvision', 'timm']),
        (trunk(tv), ['dino', 'compress', 'torchvision', 'timm']),
        ({'backbone.x': torch.ones(1)}, ['mmssd', 'mmpretrain']),
        *((file, ['byol']) for file in byol_files(tv, normed).values()),
    ):
        assert recognise(find_weights(content)) == wanted
    assert set(LAYOUTS) >= {'byol', 'compress', 'timm', 'torchvision'}


def test_blocks_without_a_table(tmp_path):
    content = dict(torchvision.models.efficientnet_b0().state_dict())
    message = refused(
        tmp_path, content, 'torchvision', EfficientNet('es', **PLAIN)
    )
    assert 'has an EdgeResidual at layers.1.0, of which no table' in message


def test_no_weights():
    with pytest.raises(CheckpointError, match='file: holds no weights'):
        find_weights(dict(epoch=3, optimizer=dict(state={})), 'file')
