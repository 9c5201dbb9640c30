"""What is printed is what runs."""

import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config

ROOT = Path(__file__).parents[2]
DEMO = next((ROOT / 'configs/demo').glob('oss_*.py'))


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def tool():
    return load(ROOT / 'tools/misc/print_config.py')


def printed(tool, capsys, tmp_path, *arguments):
    capsys.readouterr()
    tool.main([str(DEMO), *arguments])
    path = tmp_path / 'printed.py'
    path.write_text(capsys.readouterr().out)
    return Config.fromfile(path).to_dict()


def test_the_config_that_is_trained(tool, capsys, tmp_path, monkeypatch):
    train = load(ROOT / 'tools/train.py')
    options = ['--cfg-options', 'model.teacher.neck.out_channels=32']
    ran = train.prepare(train.parse_args([str(DEMO), *options])).to_dict()
    ran['custom_hooks'] = [
        hook
        for hook in ran['custom_hooks']
        if not hook['type'].endswith('TransferHook')
    ]
    assert printed(tool, capsys, tmp_path, *options) == ran
    assert ran['model']['teacher']['neck']['out_channels'] == 32
    assert ran['default_hooks']['checkpoint']['type'].endswith(
        'AtomicCheckpointHook'
    )
    assert ran['work_dir'] == f'work_dirs/{DEMO.stem}'


def test_plain(tool, capsys, tmp_path):
    found = printed(tool, capsys, tmp_path, '--plain')
    assert 'work_dir' not in found
    assert found['default_hooks']['checkpoint']['type'] == 'CheckpointHook'
    assert '_base_' not in found


def test_errors_in_one_line(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main([str(DEMO.with_name('os_resnet18.py'))])
    error = capsys.readouterr().err
    assert 'does not exist' in error and error.count('\n') == 1
