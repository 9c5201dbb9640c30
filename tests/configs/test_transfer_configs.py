"""Transfer configs: the student arrives, and a step trains it."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis.config import load_config
from mmssd.apis.export import export_backbone
from mmssd.apis.transfer import prove_initialisation
from mmssd.visualization.views import build_on_meta

ROOT = Path(__file__).resolve().parents[2]
DENSE = sorted(
    path
    for name in ('detection', 'instance', 'segmentation')
    for path in (ROOT / 'configs/transfer' / name).glob('*.py')
)
CLASSIFICATION = sorted(
    path
    for name in ('linear', 'semi-supervised')
    for path in (ROOT / 'configs/transfer' / name).glob('*.py')
)
# as they are pretrained
CONVOLUTIONAL = dict(
    resnet18=dict(type='ResNet', depth=18),
    resnet34=dict(type='ResNet', depth=34),
    resnet50=dict(type='ResNet', depth=50),
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
TRANSFORMERS = {
    student: load_config(
        ROOT / f'configs/disco/disco-dino_{pair}_8xb64-coslr-100e_in1k.py'
    ).model.backbone.to_dict()
    for student, pair in (
        ('vit-tiny', 'vit-tiny-vit-small'),
        ('xcit-tiny', 'xcit-tiny-xcit-small'),
    )
}
STUDENTS = {**CONVOLUTIONAL, **TRANSFORMERS}
SEGMENTATION = ('fcn_{}_4xb4-20ki_voc12aug', 'fcn_{}_4xb2-40ki_cityscapes')
C4 = (
    'faster-rcnn_{}-c4_8xb2-12e_voc07',
    'faster-rcnn_{}-c4_8xb2-12e_voc0712',
    'faster-rcnn_{}-c4_disco_8xb4-48ki_voc0712',
    'faster-rcnn_{}-c4_disco-code_8xb4-48ki_voc0712',
    'mask-rcnn_{}-c4_8xb2-12e_coco',
    'mask-rcnn_{}-c4_disco_8xb2-180ki_coco',
)
PYRAMID = (
    'faster-rcnn_{}-fpn_8xb2-12e_voc07',
    'faster-rcnn_{}-fpn_8xb2-12e_voc0712',
    'mask-rcnn_{}-fpn_8xb2-12e_coco',
    'mask-rcnn_{}-fpn_8xb2-120e_coco-1k',
    'mask-rcnn_{}-fpn_8xb2-36e_coco-10k',
)
QUICK = (
    'faster-rcnn_resnet18-c4_8xb2-12e_voc07',
    'faster-rcnn_resnet18-fpn_8xb2-12e_voc07',
    'fcn_mobilenet-v2_4xb4-20ki_voc12aug',
    'fcn_resnet18_4xb4-20ki_voc12aug',
    'fcn_vit-tiny_4xb4-20ki_voc12aug',
    'fcn_xcit-tiny_4xb4-20ki_voc12aug',
    'dino_vit-tiny_8xb32-coslr-100e_in1k',
    'dino_xcit-tiny_8xb32-coslr-100e_in1k',
    'seed_resnet18_8xb32-steplr-100e_in1k',
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
    resnets = [name for name in CONVOLUTIONAL if name.startswith('resnet')]
    expected = {
        task.format(student)
        for tasks, students in (
            (SEGMENTATION, STUDENTS),
            (PYRAMID, CONVOLUTIONAL),
            (C4, resnets),
        )
        for task in tasks
        for student in students
    }
    assert {path.stem for path in DENSE} == expected


@pytest.mark.parametrize('path', mark(DENSE + CLASSIFICATION), ids=ids)
def test_the_student_arrives(path, files):
    """Every tensor of the file is used, and the features are the same."""
    name = student_of(path)
    config = load(path, files(name))
    statement = prove_initialisation(config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        count = len(MODELS.build(STUDENTS[name]).state_dict())
    assert f'{count} of its {count} tensors used' in statement
    assert 'features equal to those of the pretrained network' in statement


# --- classification, features, small sets: the keys alone -------------------

FAMILIES = ('oss', 'seed', 'disco', 'compress', 'baselines', 'visual_priors')
OTHERS = {}
for path in sorted((ROOT / 'configs/transfer').glob('*/*.py')):
    if path not in DENSE:
        OTHERS.setdefault(student_of(path), []).append(path)


def shapes_of(config):
    """Name and shape of every tensor of a config's backbone."""
    backbone = dict(config.model.backbone)
    backbone.pop('init_cfg', None)
    scope = config.get('default_scope')
    built = build_on_meta(Config(dict(default_scope=scope, model=backbone)))
    return {key: tuple(v.shape) for key, v in built.state_dict().items()}


def pretrainings_of(student):
    """A config of each family that trains a student, as far as there are."""
    name = student.replace('-large', '')
    families = ('demo',) if student == 'resnet18w4' else FAMILIES
    for family in families:
        for path in sorted((ROOT / 'configs' / family).glob('*.py')):
            if f'{path.stem.split("_")[1]}-'.startswith(f'{name}-'):
                yield path
                break


def test_other_transfers_cover_the_students():
    assert set(OTHERS) == {*STUDENTS, 'resnet50', 'resnet18w4'}
    kinds = {path.parent.name for paths in OTHERS.values() for path in paths}
    assert kinds == {'linear', 'semi-supervised', 'features', 'small'}
    assert sum(map(len, OTHERS.values())) + len(DENSE) == len(
        list((ROOT / 'configs/transfer').rglob('*.py'))
    )


@pytest.mark.parametrize('student', sorted(OTHERS))
def test_other_transfers_use_every_key_of_the_student(student):
    if student == 'regnety-600mf':
        pytest.importorskip('timm')
    expected = {
        path.parent.name: shapes_of(load_config(path))
        for path in pretrainings_of(student)
    }
    first = next(iter(expected.values()))
    assert len(first) > 60
    assert all(shapes == first for shapes in expected.values())
    # one build for each backbone that is written differently
    built = {}
    for path in OTHERS[student]:
        config = load_config(path)
        written = repr((config.default_scope, config.model.backbone))
        if written not in built:
            built[written] = shapes_of(config)
        assert built[written] == first, path.stem
        if path.parent.name in ('linear', 'semi-supervised'):
            file = config.model.backbone.init_cfg
            assert (file.type, file.prefix) == ('Pretrained', 'backbone.')


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
            # mmdet would ignore boxes below 32 px, detectron2 does not
            assert part.filter_cfg == dict(filter_empty_gt=True)
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


@pytest.mark.parametrize(
    'path',
    [
        path
        for path in DENSE
        if student_of(path) in ('resnet18', 'resnet50', 'vit-tiny')
    ],
    ids=ids,
)
def test_disks_are_not_filled_and_val_is_seldom(path):
    config = load_config(path)
    assert config.default_hooks.checkpoint.max_keep_ckpts == 2
    loop = config.train_cfg
    length = loop.get('max_epochs') or loop.max_iters
    assert length % loop.val_interval == 0  # the end is tested
    if 'coco' in path.stem:
        assert length // loop.val_interval <= 3


def shrink(model):
    """Fewer proposals: the layers stay what they are."""
    for phase in ('train_cfg', 'test_cfg'):
        if 'rpn' in model[phase]:
            model[phase].rpn.nms_pre = 50
    if 'rpn' in model.train_cfg:
        model.train_cfg.rpn_proposal.nms_pre = 50
        model.train_cfg.rpn_proposal.max_per_img = 20
        model.train_cfg.rcnn.sampler.num = 16


def sample_of(shape, classes=21):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    mask = PixelData(data=torch.randint(0, classes, (1, *shape)))
    sample = SegDataSample(gt_sem_seg=mask)
    sample.set_metainfo(dict(img_shape=shape, ori_shape=shape))
    return sample


def batch_of(scope, with_mask):
    if scope == 'mmdet':
        from mmdet.testing import demo_mm_inputs

        return demo_mm_inputs(
            2, [[3, 64, 64]] * 2, num_classes=20, with_mask=with_mask
        )
    samples = [sample_of((64, 64), 19) for _ in range(2)]
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
    without = {
        name.split('.')[1]
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not torch.isfinite(parameter.grad).all()
    }
    # the maps of an XCiT come before its class token
    classless = {'cls_token', 'ca_layers', 'norm'}
    assert without == (classless if 'xcit' in path.stem else set())
    assert config.get('find_unused_parameters', False) == bool(without)
    assert all(
        module.training
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    )


def segmenter(student, data='4xb4-20ki_voc12aug'):
    """A config's FCN from random weights, for crops of another size."""
    pytest.importorskip('mmseg')
    path = ROOT / f'configs/transfer/segmentation/fcn_{student}_{data}.py'
    config = load_config(path)
    config.model.backbone.init_cfg = None
    config.model.data_preprocessor.size = (64, 96)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return ENGINE_MODELS.build(config.model), config


@pytest.mark.parametrize('student', TRANSFORMERS)
def test_a_transformer_segments_any_size(student):
    model, config = segmenter(student)
    with DefaultScope.overwrite_default_scope('mmseg'):
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    samples = [sample_of((64, 96)) for _ in images]
    model.train()
    logs = model.train_step(
        dict(inputs=list(images), data_samples=samples), wrapper
    )
    assert torch.isfinite(logs['loss'])
    moved = {
        name.split('.')[1]
        for name, parameter in model.named_parameters()
        if name.startswith('backbone.')
        and not torch.equal(parameter, before[name])
    }
    layers = 'layers' if student == 'vit-tiny' else 'xca_layers'
    assert {'patch_embed', 'pos_embed', layers} <= moved

    # sides that are no multiple of a patch
    model.eval()
    image = torch.randint(0, 256, (3, 50, 71), dtype=torch.uint8)
    sample = sample_of((50, 71))
    (result,) = model.test_step(dict(inputs=[image], data_samples=[sample]))
    assert result.pred_sem_seg.shape == (50, 71)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    padded = torch.zeros(1, 3, 64, 80)
    padded[0, :, :50, :71] = (image.flip(0) - mean) / std
    with torch.no_grad():
        maps = model.backbone(padded)
        logits = model.decode_head(maps)
    assert [tuple(x.shape) for x in maps] == [(1, 192, 4, 5)] * 4
    # a patch of the map stays over its pixels
    logits = torch.nn.functional.interpolate(
        logits, (64, 80), mode='bilinear', align_corners=False
    )
    torch.testing.assert_close(
        result.seg_logits.data, logits[0, :, :50, :71], rtol=0, atol=1e-5
    )


def test_positions_of_a_vit_are_those_of_the_crop():
    model, _ = segmenter('vit-tiny')
    backbone = model.eval().backbone
    torch.nn.init.normal_(backbone.pos_embed)
    seen = []
    backbone.drop_after_pos.register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        backbone(image)
        patches = backbone.patch_embed(image)[0]
        grid = backbone.pos_embed[:, 1:].reshape(1, 14, 14, 192)
        grid = torch.nn.functional.interpolate(
            grid.permute(0, 3, 1, 2),
            (4, 6),
            mode='bicubic',
            align_corners=False,
        )
    expected = patches + grid.flatten(2).transpose(1, 2)
    torch.testing.assert_close(seen[0][:, 1:], expected, rtol=0, atol=1e-5)
    first = backbone.cls_token[:, 0] + backbone.pos_embed[:, 0]
    torch.testing.assert_close(seen[0][:, 0], first)


@pytest.mark.parametrize('student', TRANSFORMERS)
def test_recipe_of_a_transformer(student):
    voc, short = segmenter(student)
    city, long = segmenter(student, '4xb2-40ki_cityscapes')
    assert voc.decode_head.num_classes == 21
    assert city.decode_head.num_classes == 19
    for model, config, iterations in (
        (voc, short, 20_000),
        (city, long, 40_000),
    ):
        assert config.train_cfg.max_iters == iterations
        assert config.default_hooks.checkpoint.interval == iterations // 10
        warmup, decay = config.param_scheduler
        assert (warmup.end, decay.begin, decay.end) == (1500, 1500, iterations)
        with DefaultScope.overwrite_default_scope('mmseg'):
            wrapper = build_optim_wrapper(model, config.optim_wrapper)
        decays = {
            name: group['weight_decay']
            for group in wrapper.optimizer.param_groups
            for name, parameter in model.named_parameters()
            if any(parameter is p for p in group['params'])
        }
        assert len(decays) == len(list(model.parameters()))
        assert {group['lr'] for group in wrapper.optimizer.param_groups} == {
            6e-5
        }
        for name, parameter in model.named_parameters():
            free = parameter.ndim == 1 or 'pos_embed' in name
            free |= 'cls_token' in name
            assert decays[name] == (0 if free else 0.01), name


@pytest.mark.parametrize('kind', ['faster', 'mask'])
def test_c4_of_a_resnet50(kind):
    task = 'detection' if kind == 'faster' else 'instance'
    data = 'voc07' if kind == 'faster' else 'coco'
    config = load_config(
        ROOT / f'configs/transfer/{task}'
        f'/{kind}-rcnn_resnet50-c4_8xb2-12e_{data}.py'
    )
    backbone, head = config.model.backbone, config.model.roi_head
    assert (backbone.depth, backbone.num_stages) == (50, 3)
    assert (head.shared_head.depth, head.shared_head.stage) == (50, 3)
    for part in (backbone, head.shared_head):
        assert part.style == 'pytorch'  # the stride is in the 3x3 layer
        assert not part.norm_eval
        assert part.norm_cfg.requires_grad
    assert head.shared_head.type == 'ResLayerExtraNorm'
    assert config.model.rpn_head.in_channels == 1024
    assert head.bbox_roi_extractor.out_channels == 1024
    assert head.bbox_head.in_channels == 2048
    if kind == 'mask':
        assert head.mask_head.in_channels == 2048
