import importlib.util

import pytest
import torch
from mmengine.config import Config

from mmssd.apis import config as configs
from mmssd.apis.config import load_config
from mmssd.engine.hooks.health_hook import HealthHook

HEAD = "default_scope = 'mmpretrain'\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name='tiny.py'):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_options_override(write):
    path = write(HEAD + 'model = dict(depth=18, stages=[dict(n=1)])\n')
    cfg = load_config(path, {'model.depth': 34, 'model.stages.0.n': 5})
    assert cfg.model == dict(depth=34, stages=[dict(n=5)])
    assert cfg.default_scope == 'mmpretrain'


@pytest.mark.parametrize(
    ('base', 'key'),
    [
        ('mmpretrain::_base_/models/resnet18.py', 'ImageClassifier'),
        ('mmdet::_base_/models/faster-rcnn_r50_fpn.py', 'FasterRCNN'),
        ('mmseg::_base_/models/fcn_r50-d8.py', 'EncoderDecoder'),
    ],
)
def test_bases_of_other_packages(write, base, key):
    pytest.importorskip(base.partition('::')[0])
    cfg = load_config(write(f'_base_ = {base!r}\n'))
    assert cfg.model.type == key


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet', 'mmseg'])
def test_scope_is_registered(write, scope):
    pytest.importorskip(scope)
    load_config(write(f'default_scope = {scope!r}\n'))
    from mmengine.registry import MODELS

    name = dict(mmpretrain='ResNet', mmdet='FasterRCNN', mmseg='FCNHead')
    assert MODELS.get(f'{scope}.{name[scope]}') is not None


def test_missing_file_names_what_comes_close(write, tmp_path, monkeypatch):
    write(HEAD, 'oss_resnet18.py')
    with pytest.raises(FileNotFoundError) as info:
        load_config(tmp_path / 'oss_resnet8.py')
    assert 'oss_resnet8.py does not exist' in str(info.value)
    assert f'there is {tmp_path / "oss_resnet18.py"}' in str(info.value)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match='looked for from'):
        load_config('configs/none.py')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(\n', 'cannot be read'),
        ('model = unknown\n', "NameError: name 'unknown'"),
        ("_base_ = './none.py'\n", 'none.py'),
        ("_base_ = 'mmpretrain::none/none.py'\n", 'none.py'),
    ],
)
def test_broken_files(write, text, message):
    path = write(text)
    with pytest.raises((ValueError, FileNotFoundError)) as info:
        load_config(path)
    assert message in str(info.value)
    assert str(path) in str(info.value)


def test_missing_library_is_named(write, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name, *args: (
            None if name.startswith('mmdet') else find_spec(name, *args)
        ),
    )
    for text in (
        "default_scope = 'mmdet'\n",
        "_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'\n",
    ):
        with pytest.raises(ImportError, match='pip install onedl-mmdet'):
            load_config(write(text))


def test_missing_operators_are_named(write, monkeypatch):
    def fail(name, *args):
        raise ModuleNotFoundError("No module named 'mmcv._ext'")

    monkeypatch.setattr(importlib, 'import_module', fail)
    with pytest.raises(ImportError, match='operators of mmcv'):
        configs.register_modules('mmdet')


def test_options_that_do_not_fit(write):
    path = write(HEAD + 'sizes = [1, 2]\n')
    with pytest.raises(ValueError, match='does not fit'):
        load_config(path, {'sizes.7': 1})


def test_options_without_effect_warn(write, monkeypatch):
    said = []
    monkeypatch.setattr(
        configs, 'print_log', lambda text, **kwargs: said.append(text)
    )
    load_config(write(HEAD), {'optim_wraper.lr': 1.0, 'resume': True})
    assert len(said) == 1
    assert "no 'optim_wraper'" in said[0]


def test_work_dir():
    cfg = Config(dict())
    configs.set_work_dir(cfg, None, 'configs/oss/tiny.py')
    assert cfg.work_dir == 'work_dirs/tiny'
    configs.set_work_dir(cfg, None, 'configs/oss/other.py')
    assert cfg.work_dir == 'work_dirs/tiny'
    configs.set_work_dir(cfg, 'mine', 'configs/oss/tiny.py')
    assert cfg.work_dir == 'mine'


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
@pytest.mark.parametrize('cuda', [False, True])
def test_dataloaders(monkeypatch, scope, cuda):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    cfg = Config(
        dict(
            default_scope=scope,
            train_dataloader=dict(num_workers=2),
            val_dataloader=dict(num_workers=0, persistent_workers=True),
            test_dataloader=None,
        )
    )
    configs.set_dataloaders(cfg)
    train, val = cfg.train_dataloader, cfg.val_dataloader
    assert not val.persistent_workers
    if scope == 'mmpretrain':
        assert train.persistent_workers
        assert train.pin_memory == cuda
        assert train.collate_fn == dict(type='default_collate')
    else:
        assert 'collate_fn' not in train
        assert 'persistent_workers' not in train
    configs.set_dataloaders(cfg, pin_memory=False, persistent_workers=False)
    assert not train.pin_memory
    assert not train.persistent_workers


@pytest.mark.parametrize(
    ('cuda', 'bf16', 'kind'),
    [
        (False, False, 'mmpretrain.AutocastOptimWrapper'),
        (True, True, 'mmpretrain.AutocastOptimWrapper'),
        (True, False, 'AmpOptimWrapper'),
    ],
)
def test_amp(monkeypatch, cuda, bf16, kind):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: cuda)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: bf16)
    for wrapper in (
        dict(optimizer=dict(lr=1.0)),
        dict(type='AmpOptimWrapper', optimizer=dict(lr=1.0), loss_scale=512.0),
    ):
        cfg = Config(dict(optim_wrapper=wrapper))
        configs.set_amp(cfg)
        assert cfg.optim_wrapper.type == kind
        assert cfg.optim_wrapper.optimizer == dict(lr=1.0)
        assert ('loss_scale' in cfg.optim_wrapper) == (cuda and not bf16)


@pytest.mark.parametrize(
    'values', [dict(), dict(optim_wrapper=dict(type='DeepSpeedOptimWrapper'))]
)
def test_amp_refuses(values):
    with pytest.raises(ValueError, match='--amp'):
        configs.set_amp(Config(values))


def test_auto_scale_lr():
    cfg = Config(dict(auto_scale_lr=dict(base_batch_size=256)))
    configs.set_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr == dict(base_batch_size=256, enable=True)
    # 4096 images an update are 256 a step
    cfg = Config(
        dict(
            auto_scale_lr=dict(base_batch_size=4096),
            optim_wrapper=dict(accumulative_counts=16),
        )
    )
    configs.set_auto_scale_lr(cfg)
    assert cfg.auto_scale_lr.base_batch_size == 256
    with pytest.raises(ValueError, match='base_batch_size'):
        configs.set_auto_scale_lr(Config(dict()))


@pytest.mark.parametrize(
    ('hooks', 'wanted'),
    [
        (
            dict(checkpoint=dict(type='CheckpointHook', interval=7)),
            dict(type='mmpretrain.AtomicCheckpointHook', interval=7),
        ),
        (dict(), dict(type='mmpretrain.AtomicCheckpointHook', interval=1)),
        (dict(checkpoint=dict(type='Own')), dict(type='Own')),
        (dict(checkpoint=None), None),
    ],
)
def test_atomic_checkpoints(hooks, wanted):
    cfg = Config(dict(default_hooks=hooks))
    configs.set_atomic_checkpoints(cfg)
    assert cfg.default_hooks.checkpoint == wanted


DEFERRED = dict(type='mmpretrain.DeferredScalarsHook')
HEALTH = dict(type='mmpretrain.HealthHook')


@pytest.mark.parametrize(
    'health',
    [
        dict(type='HealthHook', interval=3),
        dict(type='mmpretrain.HealthHook'),
        dict(type=HealthHook),
    ],
)
@pytest.mark.parametrize('key', ['custom_hooks', 'default_hooks'])
def test_hooks_are_there_once(health, key):
    hooks = [health, DEFERRED]
    if key == 'default_hooks':
        hooks = dict(health=health, deferred=DEFERRED)
    cfg = Config({key: hooks})
    before = cfg.pretty_text
    configs.set_hooks(cfg)
    assert cfg.pretty_text == before


@pytest.mark.parametrize('hooks', [None, [], [dict(type='EMAHook')]])
def test_hooks_are_there_always(hooks):
    cfg = Config(dict(custom_hooks=hooks))
    configs.set_hooks(cfg)
    assert cfg.custom_hooks == [*(hooks or []), HEALTH, DEFERRED]
    cfg = Config(dict(custom_hooks=[*(hooks or []), HEALTH]))
    configs.set_hooks(cfg)
    assert cfg.custom_hooks == [*(hooks or []), HEALTH, DEFERRED]


def test_data_roots(tmp_path):
    def config(**dataset):
        dataset = dict(type='CustomDataset', **dataset)
        repeated = dict(type='RepeatDataset', times=2, dataset=dataset)
        return Config(
            dict(
                default_scope='mmpretrain',
                train_dataloader=dict(dataset=repeated),
                val_dataloader=None,
            )
        )

    configs.check_data_roots(config(data_root=''))
    configs.check_data_roots(config(data_root='s3://bucket/images'))
    place = r'train_dataloader\.dataset\.dataset\.data_root'
    with pytest.raises(FileNotFoundError, match=rf'{place}.*no folder'):
        configs.check_data_roots(config(data_root=str(tmp_path / 'none')))
    with pytest.raises(FileNotFoundError, match=rf'{place}.*is empty'):
        configs.check_data_roots(config(data_root=str(tmp_path)))
    (tmp_path / 'train').mkdir()
    configs.check_data_roots(config(data_root=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r'train is empty.*=/path'):
        configs.check_data_roots(
            config(data_root=str(tmp_path), split='train')
        )
    # data sets of this package say themselves how to get the data
    cfg = config(data_root=str(tmp_path / 'none'))
    cfg.train_dataloader.dataset.dataset.type = 'GarmentScenes'
    configs.check_data_roots(cfg)


def test_preprocessor_of_the_dataset_reaches_the_model(write):
    text = (
        HEAD + 'model = dict(depth=18)\ndata_preprocessor = dict(mean=[1])\n'
    )
    assert load_config(write(text)).model.data_preprocessor.mean == [1]
    own = HEAD + (
        'model = dict(data_preprocessor=dict(mean=[2]))\n'
        'data_preprocessor = dict(mean=[1])\n'
    )
    assert load_config(write(own)).model.data_preprocessor.mean == [2]
