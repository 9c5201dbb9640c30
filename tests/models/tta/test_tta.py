"""Ten crops and ensembles against single predictions."""

import copy
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import ConfigDict
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS, TRANSFORMS
from mmpretrain.structures import DataSample

from mmssd.apis.tta import set_ensemble, set_ten_crop, ten_crop_pipeline
from mmssd.models import AverageScoreTTA, EnsembleClassifier

CLASSES = 5
CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, stem_channels=4, base_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=32),
    data_preprocessor=dict(mean=[128] * 3, std=[64] * 3, to_rgb=True),
)


def classifier(seed):
    torch.manual_seed(seed)
    model = MODELS.build(copy.deepcopy(CLASSIFIER))
    torch.nn.init.normal_(model.head.fc.weight)
    return model.eval()


def pictures(n=3, size=40):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(
        0, 256, (n, size, size, 3), generator=generator, dtype=torch.uint8
    ).numpy()


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
def test_ten_crop_is_the_mean_of_ten_single_crops(collate):
    init_default_scope('mmpretrain')
    pipeline = [dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]
    steps = ten_crop_pipeline(pipeline)
    compose = Compose([TRANSFORMS.build(step) for step in steps])
    images = pictures()
    model = classifier(0)
    tta = AverageScoreTTA(model)
    batch = collate([compose(dict(img=i, gt_label=1)) for i in images])
    with torch.no_grad():
        merged = tta.test_step(batch)
    assert len(merged) == 3
    for picture, sample in zip(images, merged, strict=True):
        scores = []
        for top, left in ((0, 0), (0, 8), (8, 0), (8, 8), (4, 4)):
            crop = picture[top : top + 32, left : left + 32, ::-1]
            for view in (crop, crop[:, ::-1]):
                x = torch.from_numpy(view.copy()).permute(2, 0, 1).float()
                with torch.no_grad():
                    logits = model(((x - 128) / 64)[None])
                scores.append(logits.softmax(1)[0])
        mean = sum(scores) / 10
        torch.testing.assert_close(sample.pred_score, mean)
        assert sample.pred_label.item() == mean.argmax()
        assert sample.gt_label.item() == 1


def batch():
    x = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(i) for i in range(3)]
    return dict(inputs=x, data_samples=samples)


def test_ensemble_is_the_mean_of_its_members(tmp_path):
    """Members of their own weights, from files with other things in them."""
    models = [classifier(seed) for seed in range(3)]
    paths = []
    for index, model in enumerate(models):
        state = model.state_dict()
        state['teacher.checkpoint_sha256'] = torch.zeros(32)
        paths.append(str(tmp_path / f'{index}.pth'))
        torch.save(dict(state_dict=state), paths[-1])
    config = ConfigDict(
        default_scope='mmpretrain', model=copy.deepcopy(CLASSIFIER)
    )
    set_ensemble(config, paths)
    config.model.members[1].pop('data_preprocessor')
    config.model.data_preprocessor = CLASSIFIER['data_preprocessor']
    ensemble = MODELS.build(config.model).eval()
    data = batch()
    with torch.no_grad():
        found = ensemble.test_step(copy.deepcopy(data))
        alone = [m.test_step(copy.deepcopy(data)) for m in models]
        # predictions depend on the member
        assert not torch.equal(alone[0][0].pred_score, alone[1][0].pred_score)
    for index, sample in enumerate(found):
        mean = sum(a[index].pred_score for a in alone) / 3
        torch.testing.assert_close(sample.pred_score, mean)
        assert sample.pred_label.item() == mean.argmax()
        assert sample.gt_label.item() == index


@pytest.fixture
def taught(tmp_path):
    """Config of a classifier with a frozen teacher, and two files of it.

    Each was trained under a teacher of a path of its own length.
    """
    config = dict(
        copy.deepcopy(CLASSIFIER),
        type='DistillClassifier',
        teacher=dict(
            backbone=CLASSIFIER['backbone'],
            neck=CLASSIFIER['neck'],
            head=CLASSIFIER['head'],
            checkpoint='a.pth',
        ),
        distill_heads=dict(kd=dict(type='LogitHead')),
    )
    paths = []
    for index, teacher in enumerate((b'first_phase.pth', b'another.pth')):
        model = MODELS.build(copy.deepcopy(config))
        model.load_state_dict(classifier(index).state_dict(), strict=False)
        state = model.state_dict()
        state['teacher.checkpoint_path'] = torch.tensor(list(teacher)).byte()
        state['teacher.checkpoint_sha256'] = torch.full((32,), index).byte()
        paths.append(str(tmp_path / f'{index}.pth'))
        torch.save(dict(state_dict=state), paths[-1])
    return config, paths


def test_members_may_have_had_teachers_of_their_own(taught):
    model, paths = taught
    config = ConfigDict(default_scope='mmpretrain', model=model)
    set_ensemble(config, paths)
    ensemble = MODELS.build(config.model).eval()
    data = batch()
    with torch.no_grad():
        found = ensemble.test_step(copy.deepcopy(data))
        alone = [
            classifier(i).test_step(copy.deepcopy(data)) for i in range(2)
        ]
    for index, sample in enumerate(found):
        mean = sum(a[index].pred_score for a in alone) / 2
        torch.testing.assert_close(sample.pred_score, mean)


def test_the_tool_tests_what_had_another_teacher(taught):
    path = Path(__file__).resolve().parents[3] / 'tools' / 'test.py'
    spec = importlib.util.spec_from_file_location('tools_test', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    model, paths = taught
    runner = SimpleNamespace(model=MODELS.build(copy.deepcopy(model)))
    for path in paths:
        tool.check_weights(runner, path)
    # other shapes are of another model still
    state = torch.load(paths[0], weights_only=True)['state_dict']
    state['head.fc.bias'] = state['head.fc.bias'][:2]
    torch.save(dict(state_dict=state), paths[0])
    with pytest.raises(ValueError, match='head.fc.bias is'):
        tool.check_weights(runner, paths[0])


def test_ensemble_of_crops():
    """Averages are of averages: views inside, members inside those."""
    models = [classifier(seed) for seed in range(2)]
    tta = AverageScoreTTA(EnsembleClassifier(models))
    one, two = batch(), batch()
    data = {k: [one[k], two[k]] for k in one}
    with torch.no_grad():
        found = tta.test_step(copy.deepcopy(data))
        alone = [
            m.test_step(copy.deepcopy(d)) for m in models for d in (one, two)
        ]
    for index, sample in enumerate(found):
        mean = sum(a[index].pred_score for a in alone) / 4
        torch.testing.assert_close(sample.pred_score, mean)


def test_ensemble_refuses(tmp_path):
    with pytest.raises(ValueError, match='members is empty'):
        EnsembleClassifier([])
    with pytest.raises(ValueError, match='1 checkpoints for 2 members'):
        EnsembleClassifier([CLASSIFIER, CLASSIFIER], ['a.pth'])
    state = classifier(0).state_dict()
    del state['head.fc.bias']
    path = tmp_path / 'part.pth'
    torch.save(state, path)
    ensemble = EnsembleClassifier([CLASSIFIER], [str(path)])
    with pytest.raises(ValueError, match=r'1 missing key.*head.fc.bias'):
        ensemble.load()
    torch.save(dict(weight=torch.zeros(1)), path)
    with pytest.raises(ValueError, match='not one key matches'):
        ensemble.test_step(batch())
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        EnsembleClassifier([CLASSIFIER], ['gone.pth']).load()
    other = classifier(0)
    other.head = MODELS.build({**CLASSIFIER['head'], 'num_classes': 4})
    with pytest.raises(ValueError, match=r'members of \[5, 4\] classes'):
        EnsembleClassifier([classifier(0), other])
    with pytest.raises(NotImplementedError, match='for testing'):
        ensemble(None)


def test_ten_crop_refuses():
    with pytest.raises(ValueError, match=r"one CenterCrop.*\['PackInputs'\]"):
        ten_crop_pipeline([dict(type='PackInputs')])
    config = ConfigDict(default_scope='mmdet')
    with pytest.raises(ValueError, match="--ten-crop .*'mmdet'"):
        set_ten_crop(config)
    with pytest.raises(ValueError, match="--ensemble .*'mmdet'"):
        set_ensemble(config, ['a', 'b'])
