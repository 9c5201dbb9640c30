"""The demo in miniature: all stages, the table, and going on."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mmssd.apis import demo as module
from mmssd.apis.config import load_config
from mmssd.apis.demo import Demo, raw_pixels, run_demo
from mmssd.datasets.fashion_mnist import CLASSES, FashionMNISTArrays


def test_raw_pixels_average_the_image():
    images = np.zeros((1, 32, 32, 3), np.uint8)
    images[0, :2, :2, 0] = [[0, 255], [255, 0]]
    features = raw_pixels(images)
    assert features.shape == (1, 3 * 16 * 16)
    assert features[0, 0].item() == pytest.approx(0.5)
    assert features[0, 1:].abs().sum() == 0


@pytest.mark.parametrize(
    ('line', 'shown'),
    [
        ('01/01 - mmengine - INFO - Iter(train) [25/800]  loss: 1', True),
        ('01/01 - mmengine - INFO - k-NN top-1 (k=20) after 200', True),
        ('(NORMAL      ) KNNProbeHook', False),
        ('01/01 - mmengine - WARNING - "FileClient" will be depr', False),
        ('01/01 - mmengine - WARNING - something else', True),
        ('ValueError: no', True),
    ],
)
def test_what_is_shown(line, shown):
    assert bool(module.SHOWN.search(line)) == shown


@pytest.mark.parametrize('name', list(module.METHODS))
def test_methods_compare_like_with_like(name):
    method = module.METHODS[name]
    oss = load_config(module.CONFIGS / module.OSS.config)
    for arm in method.arms:
        config = load_config(module.CONFIGS / arm.config)
        assert config.model.backbone == oss.model.backbone
        assert config.train_cfg == oss.train_cfg  # as many updates
        loader = config.train_dataloader
        assert loader.batch_size == oss.train_dataloader.batch_size
        assert config.custom_hooks[1].type == 'KNNProbeHook'
        teacher = config.model.get('teacher')
        assert arm.taught == bool(teacher and teacher.frozen)
        if arm.taught:
            assert teacher.prefix == 'teacher.'
            assert teacher.backbone == oss.model.teacher.backbone


def test_the_plane_is_that_of_the_student():
    student = load_config(module.CONFIGS / module.OSS.config).model.backbone
    config = load_config(module.CONFIGS / module.PLANE)
    probed = dict(config.model.backbone)
    assert probed.pop('init_cfg').prefix == 'backbone.'
    assert probed == dict(student)
    assert config.custom_hooks[3].type == 'InformationPlaneHook'
    assert config.custom_hooks[3].images == config.train_set
    for method in module.METHODS.values():
        assert set(method.planes) <= set(method.arms)


def _garments(n, seed):
    """Ten shapes of garment-like blobs, enough to be told apart."""
    random = np.random.RandomState(seed)
    labels = np.arange(n) % 10
    images = np.zeros((n, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 : 24 - label, 3 : 15 + label] = random.randint(60, 255)
    return images, labels.astype(np.uint8)


@pytest.mark.slow
def test_all_stages_and_a_second_call(tmp_path, monkeypatch):
    pytest.importorskip('mmdet')
    pytest.importorskip('skimage')
    garments = FashionMNISTArrays(
        *_garments(600, 0), *_garments(200, 1), classes=CLASSES
    )
    monkeypatch.setattr(
        'mmssd.datasets.fashion_mnist', lambda root: garments, raising=False
    )
    said = []
    demo = Demo(
        work_dir=tmp_path / 'run',
        data_root=tmp_path / 'data',
        single=(2_000, 200),
        multi=(24, 8),
        options=(
            'train_cfg.max_iters=4',
            'default_hooks.logger.interval=2',
            'default_hooks.checkpoint.interval=2',
            'custom_hooks.1.interval=2',
        ),
        detector_options=(
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.logger.interval=1',
        ),
        say=said.append,
    )
    report = run_demo(demo)
    rows = json.loads((report.parent / 'table.json').read_text())[0]
    names = [row['method'] for row in rows]
    assert names == [
        'raw pixels',
        'untrained',
        'SwAV alone',
        'OSS student',
        'OSS teacher',
    ]
    for row in rows:
        for key in ('knn', 'linear_1', 'linear_100'):
            assert 0 <= row[key] <= 100
    # an untrained detector finds nothing: 0, not a missing number
    assert [row['ap50'] is None for row in rows] == [
        True,
        False,
        True,
        False,
        True,
    ]
    for name in ('losses.png', 'knn.png', 'detections.png'):
        assert (report.parent / name).stat().st_size > 5000

    # Ctrl-C between the last checkpoint and the end of the validation: the
    # training has nothing left to do but to validate
    detector = tmp_path / 'run/seed0/detect_oss'
    (detector / 'result.json').unlink()
    for path in detector.glob('*/vis_data/scalars.json'):
        path.unlink()
    assert run_demo(demo) == report
    # (a detector that found nothing logs nothing, and is tested once more)
    found = module.last_logged(detector) is not None
    assert found or (detector / 'test/metrics.json').is_file()
    assert json.loads((detector / 'result.json').read_text())['ap50'] >= 0

    # another recipe does not go on in the same folder
    other = replace(demo, options=(*demo.options, 'model.channels_last=False'))
    with pytest.raises(RuntimeError, match='begun with another config'):
        run_demo(other)

    # everything is there: the next call trains nothing
    def refuse(*args):
        raise AssertionError('trained again')

    monkeypatch.setattr(module, 'run_training', refuse)
    assert run_demo(demo) == report
