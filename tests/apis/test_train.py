import os
import time

import pytest
import torch
from mmengine.config import Config

from mmssd.apis import train
from mmssd.apis.train import find_resume, set_resume

STATE = dict(meta=dict(epoch=1), state_dict={}, message_hub={})


@pytest.fixture
def save(tmp_path):
    """Save checkpoints, each younger than the one before."""
    clock = [time.time() - 1000]

    def save(name, content=STATE, cut=False, last=True):
        path = tmp_path / name
        content = {**content, 'filling': torch.zeros(1000)}
        torch.save(content, path)
        if cut:
            path.write_bytes(path.read_bytes()[:-500])
        clock[0] += 10
        os.utime(path, (clock[0], clock[0]))
        if last:
            (tmp_path / 'last_checkpoint').write_text(str(path))
        return str(path)

    return save


def test_takes_the_last(tmp_path, save):
    assert find_resume(tmp_path) is None
    save('epoch_1.pth')
    last = save('epoch_2.pth')
    save('best_accuracy_epoch_1.pth', last=False)
    assert find_resume(tmp_path) == last


def test_takes_the_one_before_a_broken_one(tmp_path, save, monkeypatch):
    said = []
    monkeypatch.setattr(train, '_log', lambda text, level: said.append(text))
    save('iter_90.pth')
    good = save('iter_100.pth')
    save('iter_110.pth', cut=True)
    assert find_resume(tmp_path) == good
    assert len(said) == 1
    assert 'iter_110.pth' in said[0]
    assert 'trying an earlier one' in said[0]


def test_nothing_but_broken_ones(tmp_path, save):
    save('epoch_1.pth', cut=True)
    assert find_resume(tmp_path) is None


@pytest.mark.parametrize('pointer', ['', 'gone/epoch_1.pth', None])
def test_survives_a_bad_pointer(tmp_path, save, pointer):
    path = save('epoch_1.pth')
    file = tmp_path / 'last_checkpoint'
    file.unlink() if pointer is None else file.write_text(pointer)
    assert find_resume(tmp_path) == path


def test_survives_a_folder_that_was_moved(tmp_path, save):
    save('epoch_1.pth')
    save('epoch_2.pth')
    moved = tmp_path.with_name('moved')
    tmp_path.rename(moved)
    assert find_resume(moved) == str(moved / 'epoch_2.pth')


def test_resume_without_checkpoint_keeps_the_weights_to_start_from(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='weights.pth'))
    set_resume(cfg, 'auto')
    assert not cfg.resume
    assert cfg.load_from == 'weights.pth'


def test_resume_from_a_path(tmp_path, save):
    cfg = Config(dict(work_dir=str(tmp_path)))
    path = save('epoch_1.pth')
    save('epoch_2.pth')
    set_resume(cfg, path)
    assert cfg.resume
    assert cfg.load_from == path


def test_resume_from_bad_paths(tmp_path, save):
    cfg = Config(dict(work_dir=str(tmp_path)))
    with pytest.raises(FileNotFoundError, match='--resume gone.pth: no such'):
        set_resume(cfg, 'gone.pth')
    with pytest.raises(ValueError, match='epoch_1.pth'):
        set_resume(cfg, save('epoch_1.pth', cut=True))
    weights = save('weights.pth', dict(state_dict={}))
    with pytest.raises(ValueError, match='message_hub.*load_from'):
        set_resume(cfg, weights)


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_launcher_that_started_nothing(monkeypatch, tmp_path, launcher):
    for names in train.LAUNCHERS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(train, 'get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match=f'--launcher {launcher}'):
        train.build_runner(Config(dict(work_dir=str(tmp_path))), launcher)
