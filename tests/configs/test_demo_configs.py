"""The dense tasks of the demo: one backbone, the data, what is trained."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS as ENGINE_MODELS
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis.config import load_config
from mmssd.apis.transfer import prove_initialisation
from mmssd.datasets.fashion_mnist import CLASSES

FOLDER = Path(__file__).resolve().parents[2] / 'configs/demo'
STUDENT = 'oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'
DENSE = (
    'faster-rcnn_resnet18w4-fpn_1xb8-300i_garments.py',
    'mask-rcnn_resnet18w4-fpn_1xb8-300i_garments.py',
    'fcn_resnet18w4_1xb16-300i_garments.py',
)


@pytest.fixture(scope='module')
def student(tmp_path_factory):
    """A checkpoint as the pretraining of the demo leaves it."""
    config = load_config(FOLDER / STUDENT)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(config.model.backbone)
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    path = tmp_path_factory.mktemp('student') / 'iter_700.pth'
    meta = dict(cfg=config.pretty_text)
    torch.save(dict(meta=meta, state_dict=state), path)
    return str(path)


@pytest.mark.parametrize('name', DENSE)
def test_the_student_arrives(name, student):
    config = load_config(FOLDER / name)
    pytest.importorskip(config.default_scope)
    config.model.backbone.init_cfg.checkpoint = student
    statement = prove_initialisation(config)
    # the detectors stop behind stride 16: the last stage is not wanted
    used = '120 of its 120'
    assert f'{used} tensors used' in statement
    assert 'features equal to those of the pretrained network' in statement


def test_the_tasks_are_of_the_same_scenes():
    detector, masks, segmenter = (load_config(FOLDER / n) for n in DENSE)
    assert detector.classes == masks.classes == CLASSES
    assert segmenter.classes == ('background', *CLASSES)
    assert segmenter.model.decode_head.num_classes == 11
    assert masks.val_evaluator.metric == ['bbox', 'segm']
    assert masks.train_dataloader.dataset.pipeline[1].with_mask
    assert not detector.train_dataloader.dataset.pipeline[1].get('with_mask')
    for config in (masks, segmenter):
        for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
            root = config[name].dataset.data_root
            assert root == detector.train_dataloader.dataset.data_root
        # the same part of the network is given to all tasks
        assert config.model.backbone.frozen_stages == 1
        assert config.train_cfg == detector.train_cfg


def test_a_step_of_the_segmenter_reaches_what_is_not_frozen():
    pytest.importorskip('mmseg')
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    config = load_config(FOLDER / DENSE[2])
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = ENGINE_MODELS.build(config.model)
    model.train()
    samples = []
    for _ in range(2):
        mask = PixelData(data=torch.randint(0, 11, (1, 128, 128)))
        samples.append(SegDataSample(gt_sem_seg=mask))
        samples[-1].set_metainfo(dict(img_shape=(128, 128)))
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    data = model.data_preprocessor(
        dict(inputs=list(images), data_samples=samples), True
    )
    # a map of 16 x 16: stride 8, by dilations
    assert model.backbone(data['inputs'])[3].shape == (2, 32, 16, 16)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in model.named_parameters():
        frozen = name.startswith(('backbone.conv1', 'backbone.bn1'))
        frozen |= name.startswith('backbone.layer1')
        assert (parameter.grad is None) == frozen, name
