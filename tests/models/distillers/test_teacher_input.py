"""A teacher sees its own mean, std, channel order and size."""

import logging

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmpretrain.models.backbones import ResNet, TIMMBackbone
from mmpretrain.models.utils.data_preprocessor import SelfSupDataPreprocessor
from torch import nn

from mmssd.evaluation.features import extract_features
from mmssd.models.distillers.distiller import Distiller
from mmssd.models.distillers.teacher import Teacher
from mmssd.models.utils.input_statistics import InputStatistics
from mmssd.models.utils.layouts import LAYOUTS, trained_input

STUDENT = dict(mean=[120.0, 110.0, 100.0], std=[60.0, 50.0, 40.0])
TEACHER = dict(mean=[123.675, 116.28, 103.53], std=[58.14, 57.12, 57.375])
BGR = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0])


class Recorder(BaseModule):
    """Keeps its last input; pools it, three features wide."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = None

    def forward(self, x):
        self.seen = x
        return (x * self.weight,)


def distiller(data_preprocessor, frozen=True, **kwargs):
    return Distiller(
        backbone=Recorder(),
        teacher=Teacher(
            Recorder(),
            frozen=frozen,
            checkpoint='given' if frozen else None,
            **kwargs,
        ),
        heads=dict(
            regression=dict(type='EmbeddingHead'),
        ),
        data_preprocessor=data_preprocessor,
    )


def preprocessor(to_rgb=True, **kwargs):
    return dict(
        type='SelfSupDataPreprocessor', to_rgb=to_rgb, **{**STUDENT, **kwargs}
    )


def pixels(*sizes):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(
            0, 256, (2, 3, s, s), generator=generator, dtype=torch.uint8
        )
        for s in sizes
    ]


def normalised(images, mean, std):
    mean, std = (
        torch.tensor(values, dtype=torch.float64).view(3, 1, 1)
        for values in (mean, std)
    )
    return (images.double() - mean) / std


def run(model, images):
    views = model.data_preprocessor(
        dict(inputs=list(images), data_samples=None), True
    )['inputs']
    model.init_weights()
    model.train()
    return model.loss(views)


@pytest.mark.parametrize('as_module', [True, False])
@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize('order', ['RGB', 'BGR', None])
@pytest.mark.parametrize('to_rgb', [True, False])
def test_renormalised_from_the_pixels(frozen, order, to_rgb, as_module):
    config = preprocessor(to_rgb)
    if order and not to_rgb:
        with pytest.raises(ValueError, match='leave teacher.channel_order'):
            distiller(config, frozen, channel_order=order, **TEACHER)
        return
    if as_module:
        config.pop('type')
        config = SelfSupDataPreprocessor(**config)
    own = BGR if order == 'BGR' else TEACHER
    model = distiller(config, frozen, channel_order=order, **own)
    (images,) = pixels(5)  # BGR, as they are loaded
    run(model, [images])
    # written from the pixels, in float64
    flips = order == 'RGB' or (order is None and to_rgb)
    given = images.flip(1) if flips else images
    wanted = normalised(given, **own)
    torch.testing.assert_close(
        model.teacher.backbone.seen.double(), wanted, rtol=1e-6, atol=1e-5
    )
    given = images.flip(1) if to_rgb else images
    torch.testing.assert_close(
        model.backbone.seen.double(),
        normalised(given, **STUDENT),
        rtol=1e-6,
        atol=1e-5,
    )


def test_every_view_is_resized_and_normalised():
    model = distiller(preprocessor(), input_size=8, **TEACHER)
    (images,) = pixels(12)
    run(model, [images])
    seen = model.teacher.backbone.seen.double()
    # a bilinear resize has weights that sum to 1: order does not matter
    wanted = F.interpolate(
        normalised(images.flip(1), **TEACHER),
        size=(8, 8),
        mode='bilinear',
        antialias=True,
    )
    torch.testing.assert_close(seen, wanted, rtol=1e-5, atol=1e-5)
    views = [torch.randn(2, 3, 12, 12), torch.randn(2, 3, 6, 6)]
    assert [v.shape[2:] for v in model.teacher.adapt(views)] == [(8, 8)] * 2
    assert model.backbone.seen.shape[2:] == (12, 12)


def test_antialiased():
    """A checkerboard of single pixels becomes even grey."""
    teacher = Teacher(Recorder(), checkpoint='given', input_size=(4, 4))
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2
    view = board.float().expand(1, 3, 16, 16)
    (small,) = teacher.adapt([view])
    assert (small - 0.5).abs().max() < 0.02


def test_nothing_to_do_costs_nothing():
    view = torch.randn(2, 3, 4, 4)
    for kwargs in ({}, dict(STUDENT), dict(STUDENT, input_size=4)):
        model = distiller(preprocessor(), **kwargs)
        assert model.teacher.adapt([view])[0] is view
    assert not any('input_' in key for key in model.state_dict())


def test_a_view_stays_in_its_memory_format():
    model = distiller(preprocessor(), input_size=6, **TEACHER)
    view = torch.randn(2, 3, 8, 8).contiguous(
        memory_format=torch.channels_last
    )
    (adapted,) = model.teacher.adapt([view])
    assert adapted.is_contiguous(memory_format=torch.channels_last)


def test_features_for_evaluation():
    model = distiller(preprocessor(), **TEACHER)
    (images,) = pixels(5)
    data = images.permute(0, 2, 3, 1).contiguous()
    features, _ = extract_features(model, data, 'teacher')
    wanted = normalised(images.flip(1), **TEACHER).mean(dim=(2, 3))
    torch.testing.assert_close(features.double(), wanted, rtol=1e-5, atol=1e-5)
    other = SelfSupDataPreprocessor(**TEACHER, to_rgb=True)
    with pytest.raises(ValueError, match="pass the model's own"):
        extract_features(model, data, 'teacher', data_preprocessor=other)
    extract_features(model, data, 'student', data_preprocessor=other)


def test_on_the_meta_device():
    with torch.device('meta'):
        model = distiller(preprocessor(), **TEACHER)
    assert model.teacher.student_input == InputStatistics(
        STUDENT['mean'], STUDENT['std'], 'RGB'
    )
    assert model.teacher.input_scale.is_meta


@pytest.mark.parametrize(
    'data_preprocessor',
    [None, dict(type='SelfSupDataPreprocessor', to_rgb=True)],
)
def test_the_statistics_of_the_student_must_be_known(data_preprocessor):
    with pytest.raises(
        ValueError,
        match=r'model\.teacher: .*set data_preprocessor\.mean and \.std',
    ):
        distiller(data_preprocessor, **TEACHER)
    distiller(data_preprocessor)


def test_without_an_algorithm():
    teacher = Teacher(Recorder(), checkpoint='given', **TEACHER)
    with pytest.raises(RuntimeError, match=r'call match_input\(\)'):
        teacher.adapt([torch.zeros(1, 3, 2, 2)])


@pytest.mark.parametrize(
    ('kwargs', 'said'),
    [
        (dict(mean=[1, 2, 3]), 'give both or none'),
        (dict(mean=[0.5] * 3, std=[0.2] * 3), 'multiply them by 255'),
        (dict(channel_order='BGR'), 'give them, too'),
        (dict(input_size=0), 'input_size=(0, 0)'),
        (dict(input_size=(1, 2, 3)), 'one side, or height and width'),
    ],
)
def test_refused(kwargs, said):
    with pytest.raises(ValueError) as error:
        Teacher(Recorder(), checkpoint='given', **kwargs)
    assert said in str(error.value)


# --- the config that a file carries -----------------------------------------


def file_of_run(folder, text):
    path = folder / 'run.pth'
    torch.save(
        dict(
            meta=dict(cfg=text), state_dict={'backbone.weight': torch.ones(1)}
        ),
        path,
    )
    return str(path)


def teach(path, **kwargs):
    teacher = Teacher(Recorder(), checkpoint=path, **kwargs)
    teacher.match_input(
        InputStatistics(STUDENT['mean'], STUDENT['std'], 'RGB')
    )
    teacher.init_weights()
    return teacher


@pytest.mark.parametrize('place', ['model', 'top'])
def test_the_statistics_of_the_file_are_not_ignored(place, tmp_path):
    settings = f'dict(mean={BGR["mean"]}, std={BGR["std"]}, rgb_to_bgr=1)'
    text = f'data_preprocessor = {settings}\nmodel = dict()'
    if place == 'model':
        text = f'model = dict(data_preprocessor={settings})'
    path = file_of_run(tmp_path, text)
    with pytest.raises(ValueError) as error:
        teach(path)
    assert f'set teacher.mean={BGR["mean"]}' in str(error.value)
    assert "teacher.channel_order='BGR'" in str(error.value)
    teach(path, channel_order='BGR', **BGR)


@pytest.mark.parametrize(
    'text',
    [
        f'model = dict(data_preprocessor=dict(to_rgb=True, '
        f'mean={STUDENT["mean"]}, std={STUDENT["std"]}))',
        'model = dict(type="Distiller")',
        'model = make()',
        'not python at all',
    ],
)
def test_a_file_that_says_the_same_or_nothing(text, tmp_path):
    assert teach(file_of_run(tmp_path, text)).sha256


# --- files that carry none --------------------------------------------------

# as the codes write them, of pixels in 0 to 1
MEANS = (0.485, 0.456, 0.406)
STDS = (0.229, 0.224, 0.225)
RED = (0.228, 0.224, 0.225)
KNOWN = {
    'compress': STDS,
    'dino': STDS,
    'disco': STDS,
    'moco': STDS,
    'seed': STDS,
    'swav': RED,
    'torchvision': STDS,
}


def scaled(values):
    return [255 * value for value in values]


def narrow(prefix=''):
    backbone = ResNet(18, stem_channels=8, base_channels=8)
    return {prefix + k: v for k, v in backbone.state_dict().items()}


FILES = {
    'compress': narrow,
    'dino': lambda: narrow('teacher.backbone.'),
    'disco': lambda: {
        **narrow('module.encoder_q.'),
        **narrow('module.teacher_encoder_q.'),
    },
    'moco': lambda: narrow('module.encoder_q.'),
    'seed': lambda: {
        **narrow('module.student.'),
        **narrow('module.teacher.'),
    },
    'swav': lambda: {
        **narrow('module.'),
        'module.prototypes.weight': torch.ones(3, 2),
    },
    'torchvision': lambda: {
        **narrow(),
        'fc.weight': torch.ones(2, 64),
        'fc.bias': torch.ones(2),
    },
    # written by codes that differ
    'byol': lambda: narrow('module.online_network.'),
    'mmpretrain': lambda: narrow('backbone.'),
    'mmssd': lambda: narrow('backbone.'),
    'simclr': lambda: {
        **narrow(),
        'fc.0.weight': torch.ones(4, 64),
        'fc.3.weight': torch.ones(2, 4),
    },
    'timm': narrow,
}


@pytest.fixture
def said(monkeypatch):
    """Collect what is logged as a warning."""
    logger = MMLogger.get_instance('teacher-input')
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def published(folder, layout, student, read_as=None, **kwargs):
    path = folder / 'published.pth'
    torch.save(dict(state_dict=FILES[layout]()), path)
    teacher = Teacher(
        ResNet(18, stem_channels=8, base_channels=8),
        checkpoint=str(path),
        layout=read_as or layout,
        **kwargs,
    )
    teacher.match_input(student)
    teacher.init_weights()
    return teacher


def test_every_layout_is_known_or_said_not_to_be():
    assert set(FILES) == set(LAYOUTS)
    backbone = nn.Identity()
    assert {
        name: trained_input(name, backbone)
        for name in LAYOUTS
        if trained_input(name, backbone) is not None
    } == {
        name: InputStatistics(
            [123.675, 116.28, 103.53],
            [58.14 if std is RED else 58.395, 57.12, 57.375],
            'RGB',
        )
        for name, std in KNOWN.items()
    }


@pytest.mark.parametrize('auto', [False, True], ids=['named', 'auto'])
@pytest.mark.parametrize('layout', sorted(KNOWN))
def test_a_known_layout_is_not_shared_in_silence(layout, auto, tmp_path, said):
    other = STDS if layout == 'swav' else RED
    student = InputStatistics(scaled(MEANS), scaled(other), 'RGB')
    read_as = 'auto' if auto else None
    # keys of timm's, too, whose models differ
    if auto and layout in ('compress', 'torchvision'):
        published(tmp_path, layout, student, read_as)
        assert 'neither the file nor its layout tells' in said[-1]
        return
    with pytest.raises(ValueError) as error:
        published(tmp_path, layout, student, read_as)
    red = 58.14 if layout == 'swav' else 58.395
    for words in (
        f'set teacher.mean=[123.675, 116.28, 103.53], teacher.std=[{red}, ',
        f"student's input is {student}",
        "teacher.channel_order='RGB'",
    ):
        assert words in str(error.value)
    # given, or the same but for rounding: nothing to say
    given = dict(mean=scaled(MEANS), std=scaled(KNOWN[layout]))
    published(tmp_path, layout, student, read_as, **given)
    same = InputStatistics(*given.values(), 'RGB')
    published(tmp_path, layout, same, read_as)
    assert not said


@pytest.mark.parametrize('layout', sorted(set(FILES) - set(KNOWN)))
def test_an_unknown_layout_is_assumed_aloud(layout, tmp_path, said):
    student = InputStatistics(STUDENT['mean'], STUDENT['std'], 'RGB')
    published(tmp_path, layout, student)
    assert str(student) in said[0]
    assert 'neither the file nor its layout tells' in said[0]
    assert 'set teacher.mean and teacher.std' in said[0]
    published(tmp_path, layout, student, **TEACHER)
    assert len(said) == 1


def test_a_student_that_is_not_known(tmp_path, said):
    published(tmp_path, 'swav', None)
    assert 'whose data preprocessor does not say how' in said[0]
    assert 'std=(58.14, 57.12, 57.375)' in said[0]


def test_models_of_timm_say_it_themselves():
    inception = TIMMBackbone('tf_mobilenetv3_small_minimal_100')
    cfg = inception.timm_model.pretrained_cfg
    assert cfg['mean'] == (0.5, 0.5, 0.5)
    found = trained_input('timm', inception)
    assert found == InputStatistics([127.5] * 3, [127.5] * 3, 'RGB')
    # read as another's file, that one counts
    assert trained_input('moco', inception).mean[0] == 123.675
    # found by its keys, and they fit both: not known
    assert trained_input('dino', inception, {'conv1.weight': 0}) is None
