"""The tools as users call them, on tiny images and networks."""

import importlib.util
import json
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models import ResNet
from PIL import Image

from mmssd.models.necks.dropout_projection_neck import DropoutProjectionNeck
from mmssd.models.utils.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]

CLASSIFICATION = """
default_scope = 'mmpretrain'
root = {root!r}
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet', depth=18, stem_channels=8, base_channels=8,
        norm_cfg=dict(type='SyncBN')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64,
              loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(num_classes=2, mean=[128] * 3, std=[64] * 3)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root=root, pipeline=pipeline)
train_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=4, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
auto_scale_lr = dict(base_batch_size=2)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
log_level = 'INFO'
"""

DISTILLATION = """
default_scope = 'mmpretrain'
root = {root!r}
neck = dict(
    type='DropoutProjectionNeck', in_channels=64, hid_channels=16,
    out_channels=8)
backbone = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
model = dict(
    type='Distiller', backbone=backbone, neck=neck,
    teacher=dict(frozen=False, backbone=backbone, neck=neck),
    heads=dict(clustering=dict(
        type='OnlineClusteringHead', embed_dim=8, num_prototypes=6,
        queue_length=8)),
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=[128] * 3, std=[64] * 3))
crop = [dict(type='RandomResizedCrop', scale=16)]
views = dict(type='MultiView', num_views=[2], transforms=[crop])
train_dataloader = dict(
    batch_size=4, num_workers=0, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='UnlabelledFolder', data_root=root,
        pipeline=[
            dict(type='LoadImage', max_broken=100), views,
            dict(type='PackInputs')]))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
param_scheduler = [dict(
    type='CosineAnnealingLR', by_epoch=True, begin=0, end=1, T_max=1,
    convert_to_iter_based=True)]
log_level = 'INFO'
"""

DETECTION = """
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'
default_scope = 'mmdet'
root = {root!r}
model = dict(
    backbone=dict(
        depth=18, stem_channels=8, base_channels=8, init_cfg=None,
        frozen_stages=-1, norm_cfg=dict(type='SyncBN')),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(in_channels=16, fc_out_channels=16, num_classes=2)),
    train_cfg=dict(rpn_proposal=dict(nms_pre=20, max_per_img=10)),
    test_cfg=dict(rpn=dict(nms_pre=20, max_per_img=10)))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackDetInputs', meta_keys=(
        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
dataset = dict(
    type='CocoDataset', data_root=root, ann_file='boxes.json',
    data_prefix=dict(img=''), metainfo=dict(classes=('a', 'b')),
    pipeline=pipeline)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=True, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='CocoMetric', ann_file=root + '/boxes.json')
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
val_cfg = dict(type='ValLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.001))
default_hooks = dict(logger=dict(type='LoggerHook', interval=1))
"""

SEGMENTATION = """
_base_ = 'mmseg::_base_/models/fcn_r50-d8.py'
default_scope = 'mmseg'
root = {root!r}
data_preprocessor = dict(size=(32, 32))
model = dict(
    data_preprocessor=data_preprocessor, pretrained=None,
    backbone=dict(depth=18, stem_channels=8, base_channels=8),
    decode_head=dict(
        in_channels=64, channels=16, num_convs=1, num_classes=2),
    auxiliary_head=dict(in_channels=32, channels=16, num_classes=2))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs')]
dataset = dict(
    type='BaseSegDataset', data_root=root, pipeline=pipeline,
    data_prefix=dict(img_path='images', seg_map_path='masks'),
    img_suffix='.png', seg_map_suffix='.png',
    metainfo=dict(classes=('a', 'b'), palette=[[0, 0, 0], [255, 0, 0]]))
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dataset,
    sampler=dict(type='InfiniteSampler', shuffle=True))
val_dataloader = dict(
    batch_size=1, num_workers=0, dataset=dataset,
    sampler=dict(type='DefaultSampler', shuffle=False))
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
"""


def draw_image(path, size, seed):
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope='module')
def classification(tmp_path_factory):
    folder = tmp_path_factory.mktemp('classification')
    for index in range(8):
        name = 'ab'[index % 2]
        draw_image(folder / 'images' / name / f'{index}.png', 16, index)
    return write_config(folder, CLASSIFICATION)


@pytest.fixture
def detection(tmp_path):
    images, boxes = [], []
    for index in range(1, 5):
        draw_image(tmp_path / 'images' / f'{index}.png', 64, index)
        images.append(
            dict(id=index, file_name=f'{index}.png', width=64, height=64)
        )
        boxes.append(
            dict(
                id=index,
                image_id=index,
                category_id=1 + index % 2,
                bbox=[8, 8, 32, 40],
                area=32 * 40,
                iscrowd=0,
            )
        )
    categories = [dict(id=1, name='a'), dict(id=2, name='b')]
    content = dict(images=images, annotations=boxes, categories=categories)
    (tmp_path / 'images' / 'boxes.json').write_text(json.dumps(content))
    return write_config(tmp_path, DETECTION)


@pytest.fixture
def segmentation(tmp_path):
    for index in range(4):
        draw_image(tmp_path / 'images/images' / f'{index}.png', 32, index)
        mask = np.zeros((32, 32), dtype=np.uint8)
        mask[:, 16:] = 1
        path = tmp_path / 'images/masks' / f'{index}.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(path)
    return write_config(tmp_path, SEGMENTATION)


def write_config(folder, text):
    path = folder / 'tiny.py'
    path.write_text(text.format(root=str(folder / 'images')))
    return path


def environment(**variables):
    path = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    return {
        **os.environ,
        'OMP_NUM_THREADS': '1',
        'PYTHON': sys.executable,
        'PYTHONPATH': os.pathsep.join(filter(None, path)),
        **variables,
    }


def run(*command, **variables):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def call(name, *arguments):
    """Run a tool in this process: quick, and any error surfaces."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tools_{name}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def call_badly(capfd, name, *arguments):
    """Run a tool with bad input; return its message."""
    with pytest.raises(SystemExit) as info:
        call(name, *arguments)
    assert info.value.code == 1
    message = capfd.readouterr().err
    assert 'Traceback' not in message
    return message[message.index('error: ') :]


def log_of(work_dir):
    return '\n'.join(
        path.read_text() for path in sorted(work_dir.glob('*/*.log'))
    )


@pytest.fixture(scope='module')
def trained(classification, tmp_path_factory):
    """The work folder of a run of one epoch."""
    work_dir = tmp_path_factory.mktemp('trained')
    call('train', classification, '--work-dir', work_dir)
    return work_dir


def test_trains_and_validates(trained):
    checkpoint = load_checkpoint(trained / 'epoch_1.pth')
    assert checkpoint['meta']['iter'] == 2
    assert 'random_states' in checkpoint
    assert re.search(r'Epoch\(val\).*accuracy/top1', log_of(trained))
    assert (trained / 'tiny.py').exists()


def test_validates_what_was_interrupted_after_its_last_step(
    classification, tmp_path
):
    arguments = ['train', classification, '--work-dir', tmp_path]
    call(*arguments, '--no-validate')
    assert 'Epoch(val)' not in log_of(tmp_path)
    call(*arguments, '--resume')
    assert 'Epoch(train)  [2]' not in log_of(tmp_path)
    assert (
        len(re.findall(r'Epoch\(val\).*accuracy/top1', log_of(tmp_path))) == 1
    )


def test_goes_on_past_a_broken_checkpoint(classification, tmp_path):
    arguments = [classification, '--work-dir', tmp_path, '--no-validate']
    epochs = 'train_cfg.max_epochs={}'
    call('train', *arguments, '--cfg-options', epochs.format(2))
    broken = tmp_path / 'epoch_2.pth'
    broken.write_bytes(broken.read_bytes()[:-1000])
    call('train', *arguments, '--resume', '--cfg-options', epochs.format(3))
    assert 'resumed epoch: 1, iter: 2' in log_of(tmp_path)
    assert load_checkpoint(tmp_path / 'epoch_3.pth')['meta']['epoch'] == 3
    assert 'Epoch(val)' not in log_of(tmp_path)


def test_resumes_from_a_path(classification, trained, tmp_path):
    call(
        'train',
        classification,
        *('--work-dir', tmp_path, '--resume', trained / 'epoch_1.pth'),
        *('--cfg-options', 'train_cfg.max_epochs=2'),
    )
    assert [path.name for path in tmp_path.glob('*.pth')] == ['epoch_2.pth']


def test_flags_reach_the_run(classification, tmp_path):
    call(
        'train',
        classification,
        *('--work-dir', tmp_path, '--amp', '--auto-scale-lr', '--resume'),
        *('--cfg-options', 'optim_wrapper.optimizer.lr=0.5'),
    )
    log = log_of(tmp_path)
    assert "type='mmpretrain.AutocastOptimWrapper'" in log
    assert re.search(r'Epoch\(train\).* lr: 1.0000e\+00', log)  # twice 0.5
    assert (tmp_path / 'epoch_1.pth').exists()


@pytest.mark.parametrize('out', ['metrics.json', 'predictions.pkl'])
def test_tests(classification, trained, tmp_path, out):
    path = tmp_path / out
    call(
        'test',
        *(classification, trained / 'epoch_1.pth'),
        *('--work-dir', tmp_path, '--out', path),
        *(['--tta'] if path.suffix == '.pkl' else []),
    )
    if path.suffix == '.json':
        (name,) = metrics = json.loads(path.read_text())
        assert name == 'accuracy/top1'
        assert 0 <= metrics[name] <= 100
    else:
        assert len(pickle.loads(path.read_bytes())) == 8


def test_averages_over_crops_and_checkpoints(
    classification, trained, tmp_path, capfd
):
    text = classification.read_text().replace(
        "dict(type='RandomFlip', prob=0.5)",
        "dict(type='CenterCrop', crop_size=12)",
    )
    config = tmp_path / 'crop.py'
    config.write_text(text)
    first, second = trained / 'epoch_1.pth', tmp_path / 'second.pth'
    state = load_checkpoint(first)['state_dict']
    state['head.fc.bias'] = state['head.fc.bias'] + torch.tensor([3.0, 0.0])
    torch.save(dict(state_dict=state), second)
    scores = {}
    for name, arguments in dict(
        one=[first],
        other=[second],
        both=[first, '--ensemble', second],
        crops=[first, '--ten-crop'],
        all=[first, '--ten-crop', '--ensemble', second],
    ).items():
        out = tmp_path / f'{name}.pkl'
        tail = ['--work-dir', tmp_path / 'run', '--out', out]
        call('test', config, *arguments, *tail)
        found = pickle.loads(out.read_bytes())
        scores[name] = torch.stack([s['pred_score'] for s in found])
    mean = (scores['one'] + scores['other']) / 2
    torch.testing.assert_close(scores['both'], mean)
    assert not torch.allclose(scores['one'], scores['crops'])
    for one in ('both', 'crops'):
        assert not torch.allclose(scores['all'], scores[one])

    tail = ['--work-dir', tmp_path / 'run']
    said = call_badly(
        capfd, 'test', classification, first, *tail, '--ten-crop'
    )
    assert 'must have one CenterCrop' in said
    gone = ['--ensemble', tmp_path / 'gone.pth']
    said = call_badly(capfd, 'test', config, first, *tail, *gone)
    assert 'gone.pth' in said
    large = tmp_path / 'large.py'
    large.write_text(text.replace('crop_size=12', 'crop_size=120'))
    said = call_badly(capfd, 'test', large, first, *tail, '--ten-crop')
    assert 'a crop of 120 x 120 pixels' in said and 'does not fit' in said


def test_bad_input_of_train(classification, trained, tmp_path, capfd):
    said = call_badly(capfd, 'train', tmp_path / 'none.py')
    assert f'error: config file {tmp_path}/none.py does not exist' in said
    base = [classification, '--work-dir', tmp_path]
    said = call_badly(capfd, 'train', *base, '--resume', 'gone.pth')
    assert said.startswith('error: --resume gone.pth: no such file')

    def with_option(option):
        return call_badly(capfd, 'train', *base, '--cfg-options', option)

    said = with_option('train_dataloader.dataset.data_root=/no/where')
    assert "train_dataloader.dataset.data_root='/no/where'" in said
    assert 'there is no folder /no/where' in said
    said = with_option('model.backbone.type=NoNet')
    assert 'where it happened' in said
    assert 'Traceback' in log_of(tmp_path)
    assert 'NoNet is not in the mmpretrain::model registry' in said
    assert 'readthedocs' not in said
    assert '--amp' in call_badly(
        capfd,
        'train',
        *(*base, '--amp', '--cfg-options', 'optim_wrapper.type=Own'),
    )
    assert not list(tmp_path.glob('*.pth'))


def test_says_what_it_started_from(classification, trained, tmp_path, capfd):
    base = [classification, '--work-dir', tmp_path, '--no-validate']
    init = 'model.backbone.init_cfg.{}={}'
    options = [
        init.format('type', 'Pretrained'),
        init.format('prefix', 'backbone.'),
        init.format('checkpoint', trained / 'epoch_1.pth'),
    ]
    call('train', *base, '--cfg-options', *options)
    text = f'backbone from {trained}/epoch_1.pth'
    assert f'initialisation: {text}' in log_of(tmp_path)
    assert (
        'features equal to those of the pretrained network'
        in (
            load_checkpoint(tmp_path / 'epoch_1.pth')['message_hub'][
                'runtime_info'
            ]['initialisation']
        )
    )
    assert 'initialisation: backbone from random weights' in log_of(trained)
    said = call_badly(
        capfd,
        *('train', *base, '--cfg-options', *options),
        'model.backbone.depth=34',
    )
    assert 'missing key(s): layer1.2.conv1.weight' in said


@pytest.fixture
def distillation(classification, tmp_path):
    path = tmp_path / 'distillation.py'
    root = str(classification.parent / 'images')
    path.write_text(DISTILLATION.format(root=root))
    return path


HEAD = 'model.heads.clustering'
DATA = 'train_dataloader.dataset'


@pytest.mark.parametrize(
    ('options', 'messages'),
    [
        ([f'{DATA}.data_root=none'], ['there is no folder', 'data_root']),
        ([f'{DATA}.data_root=.'], ['holds no picture', 'data_root']),
        (
            ['train_dataloader.batch_size=9'],
            ['8 image(s) make no batch of 9', 'train_dataloader.batch_size'],
        ),
        (
            [f'{HEAD}.queue_length=3'],
            ['queue_length=3', 'batch of 4', 'raise queue_length'],
        ),
        (
            [f'{DATA}.pipeline.1.num_views=[1]'],
            ["head(s) ['clustering'] need 2 global crops", '1 view(s)'],
        ),
        (
            [f'{HEAD}.freeze_prototypes=99'],
            ['freeze_prototypes=99', 'would never learn'],
        ),
        ([f'{HEAD}.temperature=-1'], [f'{HEAD} (Onl', 'temperature=-1']),
        ([f'{HEAD}.epsilon=0'], [f'{HEAD} (Onl', 'epsilon=0']),
        ([f'{HEAD}.num_prototypes=1'], [f'{HEAD} (Onl', 'num_prototypes=1']),
        (['model.teacher=None'], ['needs a teacher', 'model.teacher=dict']),
        (
            ['model.teacher.neck.out_channels=7'],
            ['width 8, but the neck of the teacher gives 7'],
        ),
        (
            ['model.neck.in_channels=63'],
            ['neck of the student does not fit', 'in_channels'],
        ),
        (
            [f"{HEAD}.train=('student',)"],
            ['teacher is online', 'no head trains it'],
        ),
        (
            [
                'model.teacher.frozen=True',
                'model.teacher.checkpoint=gone.pth',
                f"{HEAD}.train=('student',)",
            ],
            ['model.teacher.checkpoint=gone.pth', 'not found'],
        ),
    ],
)
def test_bad_distillation(distillation, tmp_path, capfd, options, messages):
    (tmp_path / 'empty').mkdir()
    options = [
        o.replace('data_root=.', f'data_root={tmp_path}') for o in options
    ]
    work_dir = tmp_path / 'run'
    said = call_badly(
        capfd,
        *('train', distillation, '--work-dir', work_dir),
        *('--cfg-options', *options),
    )
    for message in messages:
        assert message in said, said
    assert not list(work_dir.glob('*.pth'))


def teacher_file(path, depth=18, key='backbone.{}', cut=0):
    """Write a teacher as it should be, or not quite."""
    network = ResNet(depth=depth, stem_channels=8, base_channels=8)
    state = {key.format(k): v for k, v in network.state_dict().items()}
    neck = DropoutProjectionNeck(64, 16, 8)
    state |= {f'neck.{k}': v for k, v in neck.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    if cut:
        path.write_bytes(path.read_bytes()[:-cut])


@pytest.mark.parametrize(
    ('file', 'messages'),
    [
        (dict(cut=1000), ['truncated or damaged']),
        (
            dict(depth=34),
            ['surplus key(s)', 'backbone.layer1.2.conv1.weight'],
        ),
        (
            dict(key='tower.{}'),
            ["no key begins with 'backbone.'", 'tower.* (120)'],
        ),
    ],
)
def test_bad_teacher_files(distillation, tmp_path, capfd, file, messages):
    teacher = tmp_path / 'teacher.pth'
    teacher_file(teacher, **file)
    said = call_badly(
        capfd,
        *('train', distillation, '--work-dir', tmp_path / 'run'),
        *('--cfg-options', 'model.teacher.frozen=True'),
        *(f'model.teacher.checkpoint={teacher}', f"{HEAD}.train=('student',)"),
    )
    assert said.startswith('error: ') and str(teacher) in said
    for message in messages:
        assert message in said, said
    assert 'Epoch(train)' not in log_of(tmp_path / 'run')
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_good_teacher_file(distillation, tmp_path):
    teacher = tmp_path / 'teacher.pth'
    teacher_file(teacher)
    call(
        *('train', distillation, '--work-dir', tmp_path / 'run'),
        *('--cfg-options', 'model.teacher.frozen=True'),
        *(f'model.teacher.checkpoint={teacher}', f"{HEAD}.train=('student',)"),
    )
    assert f'teacher loaded from {teacher}' in log_of(tmp_path / 'run')


def test_distillation_trains(distillation, tmp_path):
    call('train', distillation, '--work-dir', tmp_path / 'run')
    state = load_checkpoint(tmp_path / 'run/epoch_1.pth')['state_dict']
    assert int(state['heads.clustering.iteration']) == 2


def test_only_broken_images(distillation, tmp_path, capfd):
    for index in range(8):
        (tmp_path / f'{index}.jpg').write_text('no image')
    said = call_badly(
        capfd,
        *('train', distillation, '--work-dir', tmp_path / 'run'),
        *('--cfg-options', f'{DATA}.data_root={tmp_path}'),
    )
    assert 'no image could be read' in said
    assert 'broken image 8 of at most 100' in log_of(tmp_path / 'run')


def test_bad_input_of_test(classification, trained, tmp_path, capfd):
    base = ['test', classification]
    tail = ['--work-dir', tmp_path]
    said = call_badly(capfd, *base, tmp_path / 'gone.pth', *tail)
    assert 'gone.pth' in said
    good = trained / 'epoch_1.pth'
    said = call_badly(capfd, *base, good, *tail, '--out', 'x.txt')
    assert '--out x.txt: must end in .json' in said
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), other)
    said = call_badly(capfd, *base, other, *tail)
    assert 'is of another model: not one key' in said
    said = call_badly(
        capfd, *base, good, *tail, '--cfg-options', 'model.head.in_channels=9'
    )
    assert 'head.fc.weight is (2, 64), not (2, 9)' in said


def test_tests_nothing_that_was_not_trained(
    classification, trained, tmp_path, capfd
):
    content = load_checkpoint(trained / 'epoch_1.pth')
    state = content['state_dict']
    for name in ('bias', 'weight'):
        del state[f'head.fc.{name}']
    count = len(state)
    partial = tmp_path / 'partial.pth'
    torch.save(dict(state_dict=state), partial)
    arguments = ['test', classification, partial, '--work-dir', tmp_path]
    said = call_badly(capfd, *arguments)
    assert f'2 of {count + 2} keys are not in {partial}' in said
    assert 'head.fc.bias, head.fc.weight. What was not trained' in said
    out = tmp_path / 'metrics.json'
    call(*arguments, '--allow-missing', '--out', out)
    assert 'they keep their initial values' in log_of(tmp_path)
    assert 'accuracy/top1' in json.loads(out.read_text())


def test_interrupt_says_how_to_go_on(classification, tmp_path):
    command = [
        *(sys.executable, '-u', ROOT / 'tools/train.py', classification),
        *('--work-dir', tmp_path, '--no-validate'),
        *('--cfg-options', 'train_cfg.max_epochs=100000'),
        'default_hooks.checkpoint.max_keep_ckpts=1',
    ]
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    for line in process.stdout:
        if 'Epoch(train)   [3]' in line or '[3][' in line:
            process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, rest + errors
    assert re.search(r'interrupted at iteration \d+, saved: \S+\.pth', errors)
    assert f'--work-dir {tmp_path} --resume' in errors
    assert 'Traceback' not in errors
    saved = re.search(r'saved: (\S+)', errors).group(1)
    assert load_checkpoint(saved)['meta']['epoch'] >= 1


@pytest.mark.dist
def test_two_processes_on_the_cpu(classification, tmp_path):
    status, output = run(
        *('bash', ROOT / 'tools/dist_train.sh', classification, 2),
        *('--work-dir', tmp_path),
        CUDA_VISIBLE_DEVICES='',
    )
    assert status == 0, output
    assert '20 SyncBatchNorm layers become BatchNorm' in output
    checkpoint = load_checkpoint(tmp_path / 'epoch_1.pth')
    assert checkpoint['meta']['iter'] == 1  # 8 images, twice 4 at a time
    assert len(checkpoint['random_states']) == 2
    assert len(list(tmp_path.glob('*/*.log'))) == 1


@pytest.mark.dist
def test_two_processes_distil(distillation, tmp_path):
    work_dir = tmp_path / 'run'
    status, output = run(
        *('bash', ROOT / 'tools/dist_train.sh', distillation, 2),
        *('--work-dir', work_dir, '--cfg-options'),
        *('train_cfg.max_epochs=2', 'param_scheduler.0.end=2'),
        'param_scheduler.0.T_max=2',
        CUDA_VISIBLE_DEVICES='',
    )
    assert status == 0, output
    checkpoint = load_checkpoint(work_dir / 'epoch_2.pth')
    assert checkpoint['meta']['iter'] == 2  # 8 images, twice 4 at a time
    state = checkpoint['state_dict']
    assert int(state['heads.clustering.iteration']) == 2
    # one queue a crop, of both processes: 8 unit rows after the first step
    for index in range(2):
        rows = state[f'heads.clustering.queues.{index}.features']
        assert rows.shape == (8, 8)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(8))
        assert not torch.equal(rows[:4], rows[4:])


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_test(classification, trained, tmp_path):
    out = tmp_path / 'metrics.json'
    status, output = run(
        *('bash', ROOT / 'tools/dist_test.sh', classification),
        *(trained / 'epoch_1.pth', 2, '--work-dir', tmp_path, '--out', out),
        CUDA_VISIBLE_DEVICES='',
    )
    assert status == 0, output
    assert 'accuracy/top1' in json.loads(out.read_text())


def test_trains_a_detector(detection, tmp_path):
    pytest.importorskip('mmdet')
    status, output = run(
        *(sys.executable, ROOT / 'tools/train.py', detection),
        *('--work-dir', tmp_path / 'run'),
    )
    assert status == 0, output
    assert re.search(r'Epoch\(train\) +\[1\]\[2/2\].*loss_rpn_cls', output)
    assert 'bbox_mAP' in output
    load_checkpoint(tmp_path / 'run/epoch_1.pth')


def test_trains_a_segmentor(segmentation, tmp_path):
    pytest.importorskip('mmseg')
    status, output = run(
        *(sys.executable, ROOT / 'tools/train.py', segmentation),
        *('--work-dir', tmp_path / 'run'),
    )
    assert status == 0, output
    assert 'mIoU' in output
    load_checkpoint(tmp_path / 'run/iter_2.pth')


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [('dist_train', 2), ('dist_test', 3), ('slurm_train', 4)],
)
def test_scripts_say_how_they_are_called(script, arguments):
    path = ROOT / 'tools' / f'{script}.sh'
    assert os.access(path, os.X_OK)
    status, output = run('bash', path, *['x'] * (arguments - 1))
    assert status == 2
    assert 'usage: ' in output


def test_slurm_script(tmp_path):
    fake = tmp_path / 'srun'
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    status, output = run(
        *('bash', ROOT / 'tools/slurm_train.sh'),
        *('gpu', 'job', 'config.py', 'runs', '--amp'),
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS='4',
        SRUN_ARGS='--time 1 --mem 2',
    )
    assert status == 0, output
    assert '-p gpu --job-name=job --gres=gpu:4 --ntasks=4' in output
    assert '--time 1 --mem 2' in output
    assert 'config.py --work-dir=runs --launcher=slurm --amp' in output
