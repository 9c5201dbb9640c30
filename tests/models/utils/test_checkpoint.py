"""Opening checkpoints: what is read, what is refused, what is said."""

import argparse
import builtins
import functools
import hashlib
import http.server
import os
import shutil
import threading
import types
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, BaseModule
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner import checkpoint as plain
from torch import nn
from torch.utils.data import Dataset

from mmssd.models.utils import checkpoint as ours
from mmssd.models.utils.checkpoint import (
    CheckpointError,
    extract_state_dict,
    file_sha256,
    find_prefix,
    install_safe_loader,
    load_checkpoint,
    load_strictly,
)


class Call:
    """Pickled as a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.fixture
def payload(tmp_path):
    """A checkpoint that makes a folder when it is unpickled."""
    mark = tmp_path / 'executed'
    path = tmp_path / 'payload.pth'
    weights = dict(weight=torch.ones(2))
    torch.save(dict(state_dict=weights, meta=Call(os.mkdir, str(mark))), path)
    return path, mark


@pytest.fixture
def loaders():
    """Registered loaders are put back after the test."""
    before = CheckpointLoader._schemes
    CheckpointLoader._schemes = before.copy()
    yield
    CheckpointLoader._schemes = before


@pytest.fixture
def server(tmp_path):
    """A folder behind http://127.0.0.1."""
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(tmp_path)
    )
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f'http://127.0.0.1:{server.server_address[1]}'
        server.shutdown()


# --- what mmengine does, and what it does with us ---------------------------


def test_plain_mmengine_runs_code_and_the_safe_loader_refuses(
    payload, loaders
):
    path, mark = payload
    CheckpointLoader.register_scheme('', plain.load_from_local, force=True)
    CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    assert mark.is_dir()  # the fault
    mark.rmdir()
    install_safe_loader()
    with pytest.raises(CheckpointError, match=r'payload\.pth: refused.*mkdir'):
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    model = nn.Linear(2, 1)
    with pytest.raises(CheckpointError, match='refused'):
        plain.load_checkpoint(model, str(path))
    assert not mark.exists()


def test_downloads_are_opened_safely(payload, loaders, server, monkeypatch):
    path, mark = payload
    monkeypatch.setenv('TORCH_HOME', str(path.parent / 'hub'))
    url = f'{server}/{path.name}'
    plain.load_from_http(url)
    assert mark.is_dir()  # the fault
    mark.rmdir()
    install_safe_loader()
    monkeypatch.setattr(plain, 'get_torchvision_models', lambda: {'bad': url})
    monkeypatch.setattr(plain, 'get_external_models', lambda: {'bad': url})
    monkeypatch.setattr(plain, 'get_mmcls_models', lambda: {'bad': url})
    monkeypatch.setattr(
        plain, 'get_deprecated_model_names', lambda: {'old': 'bad'}
    )
    for name in (
        url,
        'torchvision://bad',
        'modelzoo://bad',
        'open-mmlab://bad',
        'openmmlab://old',
        'mmcls://bad',
    ):
        with pytest.raises(CheckpointError, match=r'payload\.pth: refused'):
            CheckpointLoader.load_checkpoint(name)
    assert not mark.exists()
    with pytest.raises(CheckpointError, match="no model 'resnet1' is known"):
        CheckpointLoader.load_checkpoint('torchvision://resnet1')


def test_downloads_are_kept(loaders, server, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    torch.save(dict(a=torch.ones(2)), tmp_path / 'good.pth')
    url = f'{server}/good.pth?download=true'
    assert torch.equal(load_checkpoint(url)['a'], torch.ones(2))
    (tmp_path / 'good.pth').unlink()
    assert torch.equal(load_checkpoint(url)['a'], torch.ones(2))


def test_every_scheme_of_mmengine_is_replaced(loaders):
    install_safe_loader()
    for scheme, loader in CheckpointLoader._schemes.items():
        assert loader.__module__ == ours.__name__, scheme
        # mmengine cuts the first ten letters off for its log
        assert loader.__name__.startswith('load_from_'), scheme


def test_other_stores(loaders, payload, monkeypatch):
    path, mark = payload
    install_safe_loader()

    class Backend:
        get = staticmethod(lambda name: path.read_bytes())

    monkeypatch.setattr(ours, 'get_file_backend', lambda *_, **__: Backend)
    with pytest.raises(CheckpointError, match='s3://some/payload: refused'):
        CheckpointLoader.load_checkpoint('s3://some/payload')
    with pytest.raises(CheckpointError, match='pavi://x: download the file'):
        CheckpointLoader.load_checkpoint('pavi://x')
    assert not mark.exists()


def test_pretrained_init_goes_through_it(payload, loaders):
    path, mark = payload
    install_safe_loader()
    module = BaseModule(dict(type='Pretrained', checkpoint=str(path)))
    with pytest.raises(CheckpointError, match='refused'):
        module.init_weights()
    assert not mark.exists()


# --- mmengine's own files ---------------------------------------------------


class Rows(Dataset):
    # arrays in meta data end up in the checkpoint
    metainfo = dict(
        classes=('a', 'b'),
        palette=np.arange(6, dtype=np.uint8).reshape(2, 3),
        nested=ConfigDict(scale=np.float32(0.5)),
    )

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((3,), index / 8)


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs, mode='loss'):
        return dict(loss=self.layer(inputs).square().sum())

    def train_step(self, data, optim_wrapper):
        with optim_wrapper.optim_context(self):
            loss = self(data)['loss']
        optim_wrapper.update_params(loss)
        return dict(loss=loss)


def run(folder, resume=False):
    torch.manual_seed(0)
    runner = Runner(
        model=Model(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=Rows(),
            batch_size=4,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=4),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=3),
            dict(type='CosineAnnealingLR', T_max=4),
            dict(type='MultiStepLR', milestones=[2]),
        ],
        resume=resume,
        experiment_name=f'{folder.name}_{resume}',
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    runner.train()
    return runner


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Four epochs by mmengine's runner."""
    folder = tmp_path_factory.mktemp('trained')
    return folder, run(folder)


def same(a, b):
    """Whether two contents are equal, types included; a is plain."""
    assert type(a) is (dict if type(b) is ConfigDict else type(b))
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, HistoryBuffer):
        assert a.max_length == b.max_length
        for x, y in zip(a.data, b.data, strict=True):
            same(x, y)
        assert a.statistics('mean', 2) == b.statistics('mean', 2)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def test_reads_what_mmengine_writes(trained, tmp_path):
    path = trained[0] / 'epoch_2.pth'
    checkpoint = load_checkpoint(path)
    same(checkpoint, torch.load(path, weights_only=False))
    assert {'meta', 'state_dict', 'message_hub', 'optimizer'} < set(checkpoint)
    # and what is read can be written again
    torch.save(checkpoint, tmp_path / 'again.pth')
    same(load_checkpoint(tmp_path / 'again.pth'), checkpoint)


def test_a_run_resumes_under_the_safe_loader(trained, loaders, tmp_path):
    install_safe_loader()
    folder, whole = trained
    shutil.copy(folder / 'epoch_2.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_2.pth'))
    resumed = run(tmp_path, resume=True)
    losses = resumed.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 8  # those before the interruption included
    assert np.array_equal(
        losses, whole.message_hub.get_scalar('train/loss').data[0]
    )
    for a, b in zip(
        resumed.model.parameters(), whole.model.parameters(), strict=True
    ):
        assert torch.equal(a, b)
    assert resumed.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()


def test_history_does_not_take_methods_from_a_file(tmp_path):
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    history._statistics_methods = dict(mean=slice)
    torch.save(dict(a=history), tmp_path / 'a.pth')
    loaded = load_checkpoint(tmp_path / 'a.pth')['a']
    assert type(loaded) is HistoryBuffer
    assert loaded.statistics('mean') == 2.0
    assert HistoryBuffer._statistics_methods['mean'] is HistoryBuffer.mean


@pytest.mark.parametrize(
    'value',
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(4, dtype='>i2'),
        np.array([True, False]),
        np.array([1 + 2j], dtype=np.complex64),
        np.array(['ab', 'c']),
        np.array([b'xyz']),
        np.zeros((0, 3), dtype=np.float16),
        np.array(5, dtype=np.uint64),
        np.float64(1.5),
        np.int32(-3),
        np.bool_(True),
        np.str_('name'),
        slice(1, 5),
        (1, [2.5, None], {'a': np.ones(2)}, {3, 4}),
        2**100,
    ],
    ids=repr,
)
def test_plain_values(tmp_path, value):
    torch.save(dict(a=value), tmp_path / 'a.pth')
    same(load_checkpoint(tmp_path / 'a.pth')['a'], value)


def test_containers_become_plain(tmp_path):
    array = np.ones(2)
    torch.save(
        dict(
            a=ConfigDict(b=ConfigDict(c=[array])),
            d=defaultdict(list, e=[1]),
            f=argparse.Namespace(lr=0.1, g=array),
        ),
        tmp_path / 'a.pth',
    )
    loaded = load_checkpoint(tmp_path / 'a.pth')
    same(loaded['a'], dict(b=dict(c=[array])))
    same(loaded['d'], dict(e=[1]))
    same(vars(loaded['f']), dict(lr=0.1, g=array))


def test_contents_that_contain_themselves(tmp_path):
    loop = [np.ones(1)]
    loop.append(loop)
    torch.save(dict(a=loop), tmp_path / 'a.pth')
    loaded = load_checkpoint(tmp_path / 'a.pth')['a']
    assert loaded[1] is loaded and loaded[0] == 1


def test_map_location(tmp_path):
    torch.save(dict(a=torch.ones(2)), tmp_path / 'a.pth')
    assert load_checkpoint(tmp_path / 'a.pth', 'meta')['a'].is_meta


# --- refusals ---------------------------------------------------------------


@pytest.mark.parametrize(
    ('value', 'named'),
    [
        (Call(os.mkdir, '{mark}'), 'mkdir'),
        (Call(eval, "__import__('os').mkdir('{mark}')"), 'eval'),
        (Call(exec, "__import__('os').mkdir('{mark}')"), 'exec'),
        (Call(getattr, torch.Tensor, 'numpy'), 'getattr'),
        (Call(getattr, Path, 'mkdir'), 'pathlib'),
        (Call(functools.partial, os.mkdir, '{mark}'), 'functools.partial'),
        (Call(types.SimpleNamespace), 'types.SimpleNamespace'),
        (Call(np.load, '{mark}'), 'numpy.load'),
        (Call(np.dtype, 'O8', False, True), "dtype 'O8' is not plain"),
        (Call(np.dtype, [('a', 'O')]), 'is not plain'),
        (np.array([None, 1], dtype=object), "dtype 'O8' is not plain"),
        (nn.Linear(2, 2), r'torch\.nn\.modules\.linear\.Linear'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
@pytest.mark.parametrize('zipped', [True, False])
def test_refused(tmp_path, value, named, zipped):
    mark = tmp_path / 'executed'
    if isinstance(value, Call):
        function, args = value.call
        args = [a.format(mark=mark) if isinstance(a, str) else a for a in args]
        value = Call(function, *args)
    path = tmp_path / 'bad.pth'
    torch.save(
        dict(state_dict={}, value=value),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(CheckpointError, match=named) as error:
        load_checkpoint(path)
    assert not mark.exists()
    message = str(error.value)
    assert message.startswith(f'{path}: refused')
    assert 'weights_only=False' in message  # the remedy
    assert len(message.splitlines()) == 1


def test_nothing_that_could_run_code_is_allowed():
    for name, stand_in in ours.SAFE_GLOBALS.items():
        allowed = stand_in.__module__ == ours.__name__ or stand_in in (
            argparse.Namespace,
            dict,
            float,
            int,
            list,
            slice,
            str,
        )
        assert allowed, name
    assert ours.SAFE_GLOBALS['builtins.getattr'] is not builtins.getattr


def test_what_others_allow_is_not_allowed_here(tmp_path):
    path = tmp_path / 'a.pth'
    mark = tmp_path / 'executed'
    torch.save(dict(a=Call(eval, f"__import__('os').mkdir('{mark}')")), path)
    with torch.serialization.safe_globals([eval, getattr]):
        before = set(torch.serialization.get_safe_globals())
        with pytest.raises(CheckpointError, match='eval'):
            load_checkpoint(path)
        assert set(torch.serialization.get_safe_globals()) == before
    assert not mark.exists()


def test_allowed_names_stay_in_here(tmp_path):
    before = set(torch.serialization.get_safe_globals())
    torch.save(dict(a=np.ones(2)), tmp_path / 'a.pth')
    load_checkpoint(tmp_path / 'a.pth')
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize('kept', [1, 100, 0.5, -1])
def test_truncated(trained, tmp_path, kept):
    content = (trained[0] / 'epoch_2.pth').read_bytes()
    kept = int(len(content) * kept) if isinstance(kept, float) else kept
    path = tmp_path / 'half.pth'
    path.write_bytes(content[:kept])
    with pytest.raises(
        CheckpointError,
        match=r'half\.pth: (truncated or damaged|not a checkpoint)',
    ):
        load_checkpoint(path)


def test_damaged_pickles_raise_one_kind_of_error(trained, tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(
        load_checkpoint(trained[0] / 'epoch_2.pth'),
        path,
        _use_new_zipfile_serialization=False,
    )
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    errors = 0
    for position in generator.integers(0, len(content), 60):
        damaged = content.copy()
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            assert 'old.pth' in str(error)
            errors += 1
    assert errors > 20


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('empty.pth', b'', 'empty file'),
        ('text.pth', b'hello world\n', 'not a checkpoint of torch'),
        ('web.pth', b'<html>not found</html>', 'not a checkpoint of torch'),
        ('a.safetensors', b'xx', 'truncated or damaged'),
    ],
)
def test_other_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f'{name}: .*{message}'):
        load_checkpoint(path)


def test_not_weights(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='holds a list, not a dict'):
        load_checkpoint(tmp_path / 'list.pth')
    with pytest.raises(CheckpointError, match='a folder'):
        load_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'none\.pth not found'):
        load_checkpoint(tmp_path / 'none.pth')


@pytest.mark.filterwarnings('ignore:.*TorchScript')
def test_programs(tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / 'a.pt')
    with pytest.raises(CheckpointError, match='a TorchScript program'):
        load_checkpoint(tmp_path / 'a.pt')


def test_safetensors(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    weights = dict(a=torch.randn(2, 3), b=torch.ones(1, dtype=torch.int64))
    save_file(weights, tmp_path / 'a.safetensors')
    same(load_checkpoint(tmp_path / 'a.safetensors'), weights)


def test_sha256(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / 'a') == (
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    )
    content = b'x' * 3_000_000
    (tmp_path / 'b').write_bytes(content)
    assert file_sha256(tmp_path / 'b') == hashlib.sha256(content).hexdigest()


# --- state dicts ------------------------------------------------------------


@pytest.mark.parametrize('name', ['state_dict', 'model', None])
def test_where_weights_are(name):
    weights = {'module.a': torch.ones(1), 'b.module.c': torch.zeros(1)}
    checkpoint = weights if name is None else {name: weights, 'epoch': 3}
    found = extract_state_dict(checkpoint)
    assert list(found) == ['a', 'b.module.c']


def test_no_weights():
    with pytest.raises(
        CheckpointError, match='x.pth: holds no weights.*epoch, optimizer'
    ):
        extract_state_dict(dict(epoch=1, optimizer={}), 'x.pth')
    with pytest.raises(CheckpointError, match='holds no weights'):
        extract_state_dict(dict(state_dict={}))


def network(width=2):
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, width, 1), bn=nn.BatchNorm2d(width))
    )


def test_loads_what_fits():
    source, target = network(), network()
    nn.init.normal_(source.bn.running_mean)
    load_strictly(target, source.state_dict(), 'x.pth')
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_old_files_lack_counters():
    weights = network().state_dict()
    del weights['bn.num_batches_tracked']
    load_strictly(network(), weights, 'x.pth')


def test_all_troubles_at_once():
    target = network(4)
    weights = network(2).state_dict()
    weights['fc.weight'] = weights.pop('conv.bias')
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_strictly(target, weights, 'x.pth')
    lines = str(error.value).splitlines()
    assert lines[0] == 'x.pth does not fit the Sequential of the config'
    assert lines[1] == '  1 missing key(s): conv.bias'
    assert lines[2] == '  1 surplus key(s): fc.weight'
    assert lines[3].startswith(
        '  5 wrong shape(s): conv.weight (2, 3, 1, 1) instead of (4, 3, 1, 1),'
        ' bn.weight (2,) instead of (4,)'
    )
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key])  # nothing was changed


def test_ignored_keys():
    target, weights = network(), network().state_dict()
    weights['fc.weight'] = torch.ones(1)
    del weights['bn.running_mean']
    load_strictly(target, weights, 'x.pth', ignore=('fc.*', '*.running_mean'))
    with pytest.raises(CheckpointError, match=r'surplus key\(s\): fc.weight'):
        load_strictly(target, weights, 'x.pth', ignore=('*.running_mean',))


def test_another_architecture():
    weights = {f'blocks.{i}.weight': torch.ones(1) for i in range(14)}
    with pytest.raises(
        CheckpointError,
        match=r'not one key matches.*blocks\.9\.weight, \.\.\. \(4 more\); '
        r'the model has conv\.weight',
    ):
        load_strictly(network(), weights, 'x.pth')


def test_a_prefix_that_would_help():
    weights = {
        f'{part}.{key}': value
        for part in ('teacher.backbone', 'backbone', 'momentum.backbone')
        for key, value in network().state_dict().items()
    }
    assert find_prefix(network().state_dict(), weights) == 'backbone.'
    with pytest.raises(CheckpointError, match="prefix 'backbone.' its keys"):
        load_strictly(network(), weights, 'x.pth')
    assert find_prefix(['a.b', 'c.d'], ['x.e', 'a.b']) is None
    assert find_prefix([], ['a.b']) is None
