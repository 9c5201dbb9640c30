"""The demo as users call it: what stops it is said in one sentence."""

import importlib
import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from mmssd.apis import demo as stages
from mmssd.datasets.fashion_mnist import FashionMNISTArrays

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path, monkeypatch, capsys):
    """Call the tool in a folder of its own: status, and what it said."""
    monkeypatch.chdir(tmp_path)
    path = ROOT / 'tools' / 'demo.py'
    spec = importlib.util.spec_from_file_location('tools_demo', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments):
        with pytest.raises(SystemExit) as info:
            sys.exit(module.main(list(arguments)))
        said = capsys.readouterr()
        assert 'Traceback' not in said.out + said.err
        return info.value.code, said.err

    return call


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.setattr(stages, 'make_data', lambda demo: None)


def test_a_foreign_data_folder(demo, tmp_path, monkeypatch):
    pixels, labels = np.ones((1, 28, 28), np.uint8), np.zeros(1, np.uint8)
    garments = FashionMNISTArrays(pixels, labels, pixels, labels)
    monkeypatch.setattr(
        'mmssd.datasets.fashion_mnist', lambda root: garments, raising=False
    )
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.tex').write_text('x')
    status, said = demo('--data-root', 'mine')
    assert status == 1
    assert said.startswith('error: mine holds something else than garment')
    assert 'thesis.tex' in said and 'choose another folder' in said
    assert [p.name for p in (tmp_path / 'mine').iterdir()] == ['thesis.tex']


def test_data_that_cannot_be_had(demo, tmp_path, monkeypatch):
    module = importlib.import_module('mmssd.datasets.fashion_mnist')

    def fail(folder):
        raise OSError('no route to host')

    monkeypatch.setattr(module, 'has_files', lambda folder: False)
    monkeypatch.setattr(module, 'FETCHERS', {'by pigeon': fail})
    status, said = demo()
    assert status == 1
    assert said.startswith('error: Fashion-MNIST is neither in ')
    assert 'by pigeon: no route to host' in said
    assert str(tmp_path / 'data' / 'fashion_mnist') in said


def test_a_folder_begun_with_another_config(demo, no_data):
    folder = Path('run/seed0') / stages.OSS.slug
    stages.write_json(folder / 'recipe.json', 'another')
    status, said = demo('--work-dir', 'run')
    assert status == 1
    assert said.startswith(f'error: {folder} was begun with another config')
    assert 'remove run, or give another one by WORK_DIR=' in said


def test_a_stage_that_fails(demo, no_data, monkeypatch):
    monkeypatch.setattr(sys, 'executable', shutil.which('false'))
    status, said = demo('--work-dir', 'run')
    assert status == 1
    assert said.startswith('error: tools/train.py ')
    assert 'failed (status 1)' in said


def test_an_interrupt(demo, monkeypatch):
    def interrupt(demo):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, 'make_data', interrupt)
    status, said = demo()
    assert status == 130
    assert said == '\ninterrupted; make demo goes on from here\n'


def test_arguments_out_of_range(demo):
    assert demo('--seeds', '0') == (2, 'error: SEEDS=0: must be >= 1\n')
    status, said = demo('--method', 'magic')
    assert status == 2
    assert said.startswith('error: METHOD=magic: there is oss, ')
