"""Transfer configs: the student arrives, and a step trains it."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis.config import load_config
from mmssd.apis.export import export_backbone
from mmssd.apis.transfer import prove_initialisation

ROOT = Path(__file__).resolve().parents[2]
DENSE = sorted(
    path
    for name in ('detection', 'instance', 'segmentation')
    for path in (ROOT / 'configs/transfer' / name).glob('*.py')
)
# as they are pretrained
STUDENTS = dict(
    resnet18=dict(type='ResNet', depth=18),
    resnet34=dict(type='ResNet', depth=34),
    **{
        'mobilenet-v2': dict(type='MobileNetV2'),
        'mobilenet-v3-large': dict(type='MobileNetV3', arch='large'),
        'efficientnet-b0': dict(type='EfficientNet', arch='b0'),
        'efficientnet-b1': dict(type='EfficientNet', arch='b1'),
        'regnety-600mf': dict(
            type='TIMMBackbone',
            model_name='regnety_006',
            features_only=True,
            out_indices=(1, 2, 3, 4),
        ),
    },
)
QUICK = (
    'faster-rcnn_resnet18-c4_8xb2-12e_voc07',
    'faster-rcnn_resnet18-fpn_8xb2-12e_voc07',
    'fcn_mobilenet-v2_4xb4-20ki_voc12aug',
    'fcn_resnet18_4xb4-20ki_voc12aug',
)


def ids(path):
    return path.stem


def mark(paths):
    return [
        path
        if path.stem in QUICK
        else pytest.param(path, marks=pytest.mark.slow)
        for path in paths
    ]


def student_of(path):
    return path.stem.split('_')[1].removesuffix('-fpn').removesuffix('-c4')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Exported students, written when they are first asked for."""
    folder = tmp_path_factory.mktemp('students')

    def write(name):
        path = folder / f'{name}.pth'
        if not path.exists():
            config = dict(type='Distiller', backbone=STUDENTS[name])
            with DefaultScope.overwrite_default_scope('mmpretrain'):
                backbone = MODELS.build(STUDENTS[name])
            state = {
                f'backbone.{k}': v for k, v in backbone.state_dict().items()
            }
            text = f"default_scope = 'mmpretrain'\nmodel = {config!r}\n"
            run = folder / 'run.pth'
            torch.save(dict(meta=dict(cfg=text), state_dict=state), run)
            export_backbone(run, path)
        return str(path)

    return write


def load(path, checkpoint):
    config = load_config(path)
    pytest.importorskip(config.default_scope)
    config.model.backbone.init_cfg.checkpoint = checkpoint
    head = config.model.get('roi_head', {}).get('shared_head')
    if head is not None:
        head.init_cfg.checkpoint = checkpoint
    return config


def test_every_student_and_task_is_there():
    names = {path.stem for path in DENSE}
    for student in STUDENTS:
        for task in (
            'faster-rcnn_{}-fpn_8xb2-12e_voc07',
            'faster-rcnn_{}-fpn_8xb2-12e_voc0712',
            'mask-rcnn_{}-fpn_8xb2-12e_coco',
            'mask-rcnn_{}-fpn_8xb2-120e_coco-1k',
            'mask-rcnn_{}-fpn_8xb2-36e_coco-10k',
            'fcn_{}_4xb4-20ki_voc12aug',
            'fcn_{}_4xb2-40ki_cityscapes',
        ):
            assert task.format(student) in names
    assert len(names) == 7 * len(STUDENTS) + 12  # and C4, of ResNets alone


@pytest.mark.parametrize('path', mark(DENSE), ids=ids)
def test_the_student_arrives(path, files):
    """Every tensor of the file is used, and the features are the same."""
    name = student_of(path)
    config = load(path, files(name))
    statement = prove_initialisation(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        count = len(MODELS.build(STUDENTS[name]).state_dict())
    assert f'{count} of its {count} tensors used' in statement
    assert 'features equal to those of the pretrained network' in statement


def test_recipes_of_disco():
    folder = ROOT / 'configs/transfer/detection'
    paper = load_config(
        folder / 'faster-rcnn_resnet34-c4_disco_8xb4-48ki_voc0712.py'
    )
    code = load_config(
        folder / 'faster-rcnn_resnet34-c4_disco-code_8xb4-48ki_voc0712.py'
    )
    assert paper.optim_wrapper.optimizer.lr == 0.1
    assert code.optim_wrapper.optimizer.lr == 0.01
    assert paper.param_scheduler[1].milestones == [18_000, 22_200]
    assert code.param_scheduler[1].milestones == [18_000, 22_000]
    for config in (paper, code):
        assert config.model.backbone.depth == 34
        assert config.model.roi_head.shared_head.depth == 34
        assert config.train_cfg.max_iters == 48_000
        assert config.train_dataloader.batch_size == 4
        data = config.train_dataloader.dataset.dataset.datasets
        assert [part.data_prefix.sub_data_root for part in data] == [
            'VOC2007/',
            'VOC2012/',
        ]
        for part in data:
            assert part.pipeline[2].scale == [(1333, 400), (1333, 800)]
        assert config.test_dataloader.dataset.pipeline[1].scale == (1333, 800)


def test_data_of_the_tasks():
    def config(name):
        return load_config(ROOT / 'configs/transfer' / name)

    voc07 = config('detection/faster-rcnn_resnet18-fpn_8xb2-12e_voc07.py')
    (part,) = voc07.train_dataloader.dataset.dataset.datasets
    assert part.ann_file == 'VOC2007/ImageSets/Main/trainval.txt'
    assert voc07.model.roi_head.bbox_head.num_classes == 20
    assert voc07.val_evaluator.iou_thrs[5] == 0.75
    few = config('instance/mask-rcnn_resnet18-fpn_8xb2-120e_coco-1k.py')
    repeated = few.train_dataloader.dataset
    assert repeated.times * few.train_cfg.max_epochs == 120
    assert repeated.dataset.ann_file.endswith('train2017_1k_1.json')
    many = config('instance/mask-rcnn_resnet18-fpn_8xb2-36e_coco-10k.py')
    assert many.train_dataloader.dataset.times * 12 == 36
    city = config('segmentation/fcn_resnet18_4xb2-40ki_cityscapes.py')
    assert city.model.decode_head.num_classes == 19
    assert city.model.data_preprocessor.size == (512, 1024)
    assert city.train_cfg.max_iters == 40_000


def shrink(model):
    """Fewer proposals: the layers stay what they are."""
    for phase in ('train_cfg', 'test_cfg'):
        if 'rpn' in model[phase]:
            model[phase].rpn.nms_pre = 50
    if 'rpn' in model.train_cfg:
        model.train_cfg.rpn_proposal.nms_pre = 50
        model.train_cfg.rpn_proposal.max_per_img = 20
        model.train_cfg.rcnn.sampler.num = 16


def batch_of(scope, with_mask):
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(
            2, [[3, 64, 64]] * 2, num_classes=20, with_mask=with_mask
        )
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        mask = PixelData(data=torch.randint(0, 19, (1, 64, 64)))
        sample = SegDataSample(gt_sem_seg=mask)
        sample.set_metainfo(dict(img_shape=(64, 64), ori_shape=(64, 64)))
        samples.append(sample)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples)


@pytest.mark.slow
@pytest.mark.parametrize(
    'path',
    [
        path
        for path in DENSE
        if path.stem.endswith(('_voc07', '_voc12aug', '12e_coco'))
    ],
    ids=ids,
)
def test_a_step_reaches_every_layer(path):
    config = load_config(path)
    pytest.importorskip(config.default_scope)
    model = config.model
    model.backbone.init_cfg = None
    if model.get('roi_head', {}).get('shared_head'):
        model.roi_head.shared_head.init_cfg = None
    if config.default_scope == 'mmdet':
        shrink(model)
    else:
        model.data_preprocessor.size = (64, 64)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = ENGINE_MODELS.build(model)
        model.train()
        batch = batch_of(config.default_scope, 'mask-rcnn' in path.stem)
        data = model.data_preprocessor(batch, True)
        loss, logs = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    assert len(logs) >= 3
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not torch.isfinite(parameter.grad).all()
    ]
    assert without == []
    assert all(
        module.training
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    )
