"""FLOPs and parameters against those counted by hand."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmssd.apis.config import load_config, register_modules
from mmssd.visualization.complexity import count_flops, network_complexity

ROOT = Path(__file__).parents[2]
DEMO = next((ROOT / 'configs/demo').glob('oss_*.py'))


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/analysis/complexity.py'
    spec = importlib.util.spec_from_file_location('complexity', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_convolution_and_linear_layer_by_hand():
    image = torch.zeros(1, 3, 9, 9)
    # 5 x 5 places, 8 maps, 3 x 3 x 3 multiply-adds each: 5400
    assert count_flops(nn.Conv2d(3, 8, 3, stride=2, padding=1), image) == (
        25 * 8 * 27,
        (),
    )
    assert count_flops(nn.Linear(7, 11), torch.zeros(1, 7)) == (77, ())


def test_attention_by_hand():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    # 2 heads of 5 tokens: 5 x 5 scores of width 4, and back
    tokens = torch.zeros(1, 2, 5, 4)
    assert count_flops(Attention(), tokens) == (2 * 2 * 5 * 5 * 4, ())


def test_what_is_not_counted_is_said():
    class Sort(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real

    flops, missed = count_flops(Sort(), torch.zeros(1, 4))
    assert flops == 0 and any('fft' in name for name in missed)


def test_networks_of_the_demo():
    config = load_config(DEMO)
    student = config.model.backbone
    sizes = [(32, 32), (32, 32), (20, 20), (20, 20)]
    parts = {(p.network, p.part): p for p in network_complexity(config, sizes)}
    assert list(parts) == [
        ('student', 'backbone'),
        ('student', 'neck'),
        ('teacher', 'backbone'),
        ('teacher', 'neck'),
        ('objective', 'clustering'),
        ('objective', 'domain'),
    ]
    # the stem, by hand: 7 x 7 x 3 weights a map, a quarter of the places
    part = parts['student', 'backbone']
    stem = 16 * 16 * student.stem_channels * 147
    assert part.flops[32, 32] > stem
    assert part.per_image == 2 * sum(part.flops.values())
    neck = config.model.neck
    wide, hidden, out = neck.in_channels, neck.hid_channels, neck.out_channels
    found = parts['student', 'neck']
    weights = wide * hidden + hidden * out
    # the second layer runs twice, for the dropout views
    products = weights + hidden * out
    assert products <= found.flops[32, 32] <= products + 20 * hidden
    assert found.flops[32, 32] == found.flops[20, 20]
    assert weights < found.parameters < weights + 10 * hidden


def test_a_view_that_the_teacher_does_not_see():
    config = load_config(
        ROOT / 'configs/seed/'
        'seed-patches_resnet18-swav-resnet50_8xb32-coslr-200e_in1k.py'
    )
    tiny = dict(type='ResNet', depth=18, base_channels=2, stem_channels=2)
    config.model.backbone = Config(tiny)._cfg_dict
    config.model.teacher.backbone = Config(tiny)._cfg_dict
    config.model.neck.in_channels = 16
    config.model.teacher.neck.in_channels = 16
    sizes = [(64, 64)] + [(32, 32)] * 6
    parts = {(p.network, p.part): p for p in network_complexity(config, sizes)}
    student, teacher = (parts[n, 'backbone'] for n in ('student', 'teacher'))
    assert student.flops[64, 64] == teacher.flops[64, 64]
    assert (
        student.per_image
        == student.flops[64, 64] + 6 * (student.flops[32, 32])
    )
    assert teacher.per_image <= student.per_image


def test_a_whole_segmentor_by_hand():
    pytest.importorskip('mmseg')
    register_modules('mmseg')
    head = dict(
        type='FCNHead',
        in_channels=32,
        in_index=3,
        channels=4,
        num_convs=1,
        concat_input=False,
        num_classes=3,
        norm_cfg=None,
    )
    model = dict(
        type='EncoderDecoder',
        backbone=dict(
            type='ResNet', depth=18, stem_channels=4, base_channels=4
        ),
        decode_head=head,
        auxiliary_head=dict(head, in_channels=16, in_index=2),
        test_cfg=dict(mode='whole'),
    )
    config = Config(dict(default_scope='mmseg', model=model))
    parts = {p.part: p for p in network_complexity(config, [(64, 96)])}
    assert list(parts) == ['backbone', 'decode_head', 'auxiliary_head']
    # 2 x 3 places of stride 32, 4 x 6 of stride 16
    found = parts['decode_head']
    assert found.flops == {(64, 96): 6 * (32 * 9 * 4 + 4 * 3)}
    assert found.parameters == 32 * 9 * 4 + 4 + 4 * 3 + 3
    assert parts['auxiliary_head'].per_image == 24 * (16 * 9 * 4 + 4 * 3)
    assert parts['backbone'].flops[64, 96] > 32 * 48 * 147 * 4
    assert not any(part.missed for part in parts.values())


def test_a_whole_detector_by_hand():
    pytest.importorskip('mmdet')
    config = load_config(
        ROOT / 'configs/transfer/detection/'
        'faster-rcnn_resnet18-fpn_8xb2-12e_voc07.py'
    )
    parts = {p.part: p for p in network_complexity(config, [(64, 96)])}
    assert list(parts) == ['backbone', 'neck', 'rpn_head', 'roi_head']
    # maps of 16 x 24, 8 x 12, 4 x 6, 2 x 3 and 1 x 2 places
    places = (384, 96, 24, 6, 2)
    fpn = sum(
        n * wide * 256
        for n, wide in zip(places, (64, 128, 256, 512), strict=False)
    )
    fpn += sum(places[:4]) * 9 * 256 * 256
    assert fpn <= parts['neck'].per_image < 1.001 * fpn
    rpn = 9 * 256 * 256 + 256 * (3 + 12)
    assert parts['rpn_head'].per_image == sum(places) * rpn
    # 1000 regions of 7 x 7, 21 scores and 20 boxes
    region = 49 * 256 * 1024 + 1024 * 1024 + 1024 * (21 + 80)
    assert parts['roi_head'].per_image == 1000 * region
    assert not any(part.missed for part in parts.values())
    # what cannot be traced is said, and the rest is counted
    config.model.roi_head.bbox_roi_extractor.out_channels = 8
    parts = {p.part: p for p in network_complexity(config, [(64, 96)])}
    assert parts['roi_head'].per_image is None
    assert 'roi_head, which cannot be traced' in parts['roi_head'].missed[0]
    assert parts['rpn_head'].per_image == sum(places) * rpn
    # regions from elsewhere, nobody knows how many
    config.model.type = 'FastRCNN'
    del config.model['rpn_head'], config.model.test_cfg['rpn']
    found = network_complexity(config, [(64, 96)])[-1]
    assert found.per_image is None and found.parameters > 0
    assert 'tells no number' in found.missed[0]


def test_tool(tool, tmp_path, capsys):
    out = tmp_path / 'cost.json'
    tool.main([str(DEMO), '--out', str(out)])
    text = capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record['views'] == [[32, 32], [32, 32], [20, 20], [20, 20]]
    lines = text.splitlines()
    assert len(lines) == 2 + len(record['parts'])
    assert len({len(line) for line in lines}) == 1
    backbone = record['parts'][0]
    assert f'{backbone["parameters"] / 1e6:.3f}' in lines[2]
    assert f'{backbone["flops"]["32x32"] / 1e6:.2f}' in lines[2]
    assert '32 x 32 px' in lines[0]
    with pytest.raises(SystemExit):
        tool.main([str(DEMO), '--views', '2-64'])
    assert '--views 2-64: must be NUMBERxSIZE' in capsys.readouterr().err
