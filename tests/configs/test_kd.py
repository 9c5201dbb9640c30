"""KD at the fitting of a classifier: its configs train a step."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from mmssd.apis.config import load_config

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'disco'
CONFIGS = sorted(FOLDER.glob('kd*.py'))
TEACHER = 'kd-teacher_resnet50_8xb32-steplr-100e_in1k'
FAMILY = 'kd_resnet18-resnet50_8xb32-steplr-100e_in1k'


@pytest.mark.parametrize(
    'path',
    [
        path
        if path.stem == FAMILY
        else pytest.param(path, marks=pytest.mark.slow)
        for path in CONFIGS
    ],
    ids=lambda path: path.stem,
)
def test_config_takes_a_step(path, tmp_path):
    init_default_scope('mmpretrain')
    config = load_config(path)
    backbone = MODELS.build({**config.model.backbone, 'init_cfg': None})
    weights = backbone.state_dict(prefix='backbone.')
    student = tmp_path / 'student.pth'
    torch.save(dict(state_dict=weights), student)
    config.model.backbone.init_cfg.checkpoint = str(student)
    expected = {'loss'}
    if 'teacher' in config.model:
        taught = MODELS.build(load_config(FOLDER / f'{TEACHER}.py').model)
        teacher = tmp_path / 'teacher.pth'
        torch.save(dict(state_dict=taught.state_dict()), teacher)
        assert f'/{TEACHER}/epoch_100.pth' in config.model.teacher.checkpoint
        config.model.teacher.checkpoint = str(teacher)
        expected = {'loss', 'loss_labels', 'kd.loss_logits'}
    model = MODELS.build(config.model)
    model.init_weights()
    optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
    # an untrained EfficientNet has features near zero: look at the bias
    head = model.head.fc.bias.detach().clone()
    model.train()
    logs = model.train_step(
        dict(
            inputs=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
            data_samples=[DataSample().set_gt_label(i) for i in (0, 999)],
        ),
        optim_wrapper,
    )
    assert set(logs) == expected
    assert all(torch.isfinite(value).all() for value in logs.values())
    # frozen, running statistics too
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, weights[f'backbone.{key}']), key
    assert not torch.equal(head, model.head.fc.bias)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipe(path):
    config = load_config(path)
    resnet = 'resnet18-' in path.stem or path.stem == TEACHER
    optimizer = config.optim_wrapper.optimizer
    assert optimizer.lr == (30 if resnet else 3)
    assert optimizer.weight_decay == 0
    assert config.param_scheduler[0].milestones == [60, 80]
    if path.stem != TEACHER:
        head = config.model.distill_heads.kd
        assert (head.alpha, head.temperature) == (0.5, 2)
        published = path.stem.startswith('kd-published')
        assert ('reduction' in head) == published
        source = config.model.backbone.init_cfg.checkpoint
        after = 'disco_' if path.stem.startswith('kd-disco') else 'mocov2_'
        assert source.removeprefix('work_dirs/').startswith(after)
