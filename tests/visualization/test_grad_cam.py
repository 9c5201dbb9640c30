"""Maps of attention against the equation, and the picture of them."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from PIL import Image

from mmssd.evaluation.linear_probe import logistic_regression
from mmssd.visualization.grad_cam import (
    WEIGHT_DECAY,
    fit_probe,
    grad_cam,
    load_classifier,
)
from mmssd.visualization.pictures import draw_points, heat

TOOLS = Path(__file__).parents[2] / 'tools/analysis'
MODEL = dict(
    type='FrozenClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=4, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=32),
    data_preprocessor=dict(mean=[128] * 3, std=[64] * 3, to_rgb=True),
)


def build(**model):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config(dict(MODEL, **model))._cfg_dict)
    return model.train(False) or model


@pytest.mark.parametrize('kind', ['FrozenClassifier', 'ImageClassifier'])
def test_maps_are_those_of_the_equation(kind):
    pytest.importorskip('pytorch_grad_cam')
    model = build(type=kind)
    # the library adds 1e-7 to the largest value
    model.head.fc.weight.data.normal_(std=1e3)
    images = torch.randn(3, 3, 64, 96)
    labels = torch.tensor([4, 0, 2])
    maps, logits = grad_cam(model, images, labels)
    with torch.no_grad():
        stage = model.backbone(images)[-1]  # (3, 32, 2, 3)
        wanted_logits = model.head(model.neck((stage,)))
    torch.testing.assert_close(logits, wanted_logits)
    # behind the mean over H x W the gradient of a score is w / (H W)
    weight = model.head.fc.weight[labels].detach()
    wanted = torch.einsum('nk,nkhw->nhw', weight, stage).clamp_min(0)
    for got, values in zip(maps, wanted.numpy(), strict=True):
        values = values - values.min()
        values = cv2.resize(values / (values.max() + 1e-7), (96, 64))
        np.testing.assert_allclose(got, values, atol=1e-4)
    assert maps.shape == (3, 64, 96)
    assert all(p.grad is None for p in model.backbone.parameters())


def test_predicted_class_by_default():
    pytest.importorskip('pytorch_grad_cam')
    model = build()
    images = torch.randn(2, 3, 64, 64)
    maps, logits = grad_cam(model, images)
    again, _ = grad_cam(model, images, logits.argmax(1))
    np.testing.assert_array_equal(maps, again)
    with pytest.raises(ValueError, match=r'classes \[5, 0\]: .* has 5'):
        grad_cam(model, images, torch.tensor([5, 0]))
    with pytest.raises(ValueError, match='32 x 32 pixels leave one place'):
        grad_cam(model, images[..., :32, :32])


def test_a_probe_fitted_to_frozen_features():
    pytest.importorskip('pytorch_grad_cam')
    backbone = build().backbone
    features = 3 + 5 * torch.randn(60, 32)
    labels = torch.arange(60) % 3
    probe = fit_probe(backbone, features, labels)
    x = (features - features.mean(0)) / features.std(0, correction=0)
    weight, bias = logistic_regression(x, labels, WEIGHT_DECAY, 3, 1e-4)
    torch.testing.assert_close(
        probe.head(features), x @ weight.T + bias, rtol=1e-4, atol=1e-4
    )
    images = torch.randn(2, 3, 64, 64)
    maps, logits = grad_cam(probe, images, torch.tensor([2, 0]))
    with torch.no_grad():
        stage = backbone(images)[-1]
    pooled = stage.mean(dim=(2, 3))
    torch.testing.assert_close(logits, probe.head(pooled))
    wanted = torch.einsum('nk,nkhw->nhw', probe.weight[[2, 0]], stage)
    for got, values in zip(maps, wanted.clamp_min(0).numpy(), strict=True):
        values = values - values.min()
        values = cv2.resize(values / (values.max() + 1e-7), (64, 64))
        np.testing.assert_allclose(got, values, atol=1e-3)


def test_heat():
    image = np.full((1, 2, 3), 100, dtype=np.uint8)
    low, high = heat(image, np.array([[0.0, 1.0]]))[0]
    # jet: (0, 0, 0.5) and (0.5, 0, 0), half of it, and half the image
    assert low.tolist() == [50, 50, 114]
    assert high.tolist() == [114, 50, 50]


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_tool(tmp_path, capsys):
    pytest.importorskip('pytorch_grad_cam')
    torch.save(dict(state_dict=build().state_dict()), tmp_path / 'probe.pth')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=64),
        dict(type='PackInputs'),
    ]
    config = Config(
        dict(
            default_scope='mmpretrain',
            model=MODEL,
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )
    config.dump(tmp_path / 'config.py')
    files = []
    for name in 'ab':
        pixels = np.random.randint(0, 256, (40, 50, 3), dtype=np.uint8)
        files.append(str(tmp_path / f'{name}.png'))
        Image.fromarray(pixels).save(files[-1])
    probe = [str(tmp_path / 'config.py'), str(tmp_path / 'probe.pth')]
    out = tmp_path / 'out/cam.png'
    base = ['--network', 'one', *probe, '--network', 'two', *probe]
    tool = load_tool('grad_cam')
    tool.main([*base, '--images', *files, '--out', str(out)])
    assert capsys.readouterr().out.strip() == str(out)
    width, height = Image.open(out).size
    assert width > 600 and height > 400  # three columns, two rows
    # untrained, although the config starts from a file that is not there
    file = dict(type='Pretrained', checkpoint='none.pth', prefix='backbone.')
    config.model.backbone.init_cfg = file
    config.dump(tmp_path / 'untrained.py')
    untrained = ['--network', 'untrained', str(tmp_path / 'untrained.py')]
    tool.main(
        [*base, *untrained, 'random', '--images', *files, '--out', str(out)]
    )
    assert Image.open(out).size[0] > width
    network, model, names = tool.read_classifier([*untrained[1:], 'random'])
    assert network.model is model and names is None
    assert not model.training and model.head.fc.out_features == 5
    capsys.readouterr()
    for wrong, message in (
        (['--images', 'none.png'], 'no image none.png'),
        (['--images', *files, '--classes', '1', '2', '3'], '3 for 2 images'),
    ):
        with pytest.raises(SystemExit):
            tool.main([*base, '--out', str(out), *wrong])
        assert message in capsys.readouterr().err


def test_only_whole_classifiers(tmp_path):
    state = build().state_dict()
    del state['head.fc.bias']
    torch.save(dict(state_dict=state), tmp_path / 'probe.pth')
    with pytest.raises(ValueError, match='missing key.*head.fc.bias'):
        load_classifier(Config(dict(model=MODEL)), tmp_path / 'probe.pth')
    with pytest.raises(ValueError, match='has no head'):
        load_classifier(Config(dict(model=dict(type='Distiller'))), 'x')


def test_points_of_many_classes(tmp_path):
    for count in (3, 30):
        points = np.random.randn(60, 2)
        labels = np.arange(60) % count
        draw_points({'a': points, 'b': points}, labels, tmp_path / 'p.png')
        width, height = Image.open(tmp_path / 'p.png').size
        assert width > 1.8 * height
