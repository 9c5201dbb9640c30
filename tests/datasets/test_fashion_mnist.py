import gzip
import hashlib
import importlib
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.registry import DATASETS

from mmssd.datasets.fashion_mnist import CLASSES, GarmentDataset, fashion_mnist

# the package exports a function of the same name
module = importlib.import_module('mmssd.datasets.fashion_mnist')
REAL = [
    Path('/') / module.DEBIAN_FOLDER,
    Path(__file__).parents[2] / 'data' / 'fashion_mnist',
]


def write(folder, garments, packed=True):
    """Write the four files; return the SHA-256 of their content."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for split, name in (('train', 'train'), ('test', 't10k')):
        images, labels = garments.split(split)
        for kind, array, magic in (
            ('images-idx3', images, 2051),
            ('labels-idx1', labels, 2049),
        ):
            header = struct.pack(f'>{1 + array.ndim}i', magic, *array.shape)
            content = header + array.tobytes()
            name_ = f'{name}-{kind}-ubyte'
            digests[name_] = hashlib.sha256(content).hexdigest()
            if packed:
                (folder / f'{name_}.gz').write_bytes(gzip.compress(content))
            else:
                (folder / name_).write_bytes(content)
    return digests


@pytest.fixture
def files(tmp_path, garments, monkeypatch):
    """The four files with a few garments, their checksums being expected."""
    folder = tmp_path / 'files'
    monkeypatch.setattr(module, 'SHA256', write(folder, garments))
    return folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No way to fetch anything; gives a folder to look in."""

    def fail(folder):
        raise OSError('no route to host')

    monkeypatch.setattr(
        module, 'FETCHERS', dict.fromkeys(module.FETCHERS, fail)
    )
    return tmp_path / 'nowhere'


def same(a, b):
    for split in ('train', 'test'):
        for x, y in zip(a.split(split), b.split(split), strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('packed', [True, False])
def test_files_put_by_hand(tmp_path, garments, monkeypatch, nowhere, packed):
    digests = write(tmp_path / 'hand', garments, packed)
    monkeypatch.setattr(module, 'SHA256', digests)
    arrays = fashion_mnist(tmp_path / 'hand', nowhere)
    same(arrays, garments)
    assert arrays.train_images.dtype == np.uint8
    assert arrays.classes == CLASSES and len(CLASSES) == 10


def test_installed_package(files, garments, nowhere):
    same(fashion_mnist(nowhere, installed=files), garments)
    assert not nowhere.exists()  # used where it is


def test_wrong_checksum(files, nowhere):
    path = files / 't10k-labels-idx1-ubyte.gz'
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match='t10k-labels.*SHA-256.*delete it'):
        fashion_mnist(files, nowhere)


def test_cut_off_file(files, nowhere):
    path = files / 'train-images-idx3-ubyte.gz'
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match='train-images.*cannot be read'):
        fashion_mnist(files, nowhere)


def test_nowhere(nowhere, monkeypatch):
    with pytest.raises(FileNotFoundError) as caught:
        fashion_mnist(nowhere, nowhere)
    message = str(caught.value)
    for part in (
        'apt-get install dataset-fashion-mnist',
        'apt-get update',
        "torchvision's downloader",
        'train-images-idx3-ubyte.gz',
        str(nowhere),
        'no route to host',
    ):
        assert part in message


def test_fetched_files_are_verified_and_kept(
    files, garments, nowhere, monkeypatch, tmp_path
):
    corrupt = tmp_path / 'corrupt'
    write(corrupt, garments)
    (corrupt / 't10k-labels-idx1-ubyte.gz').write_bytes(b'an error page')
    monkeypatch.setattr(
        module, 'FETCHERS', {'a': lambda _: corrupt, 'b': lambda _: files}
    )
    root = tmp_path / 'root'
    same(fashion_mnist(root, nowhere), garments)
    monkeypatch.setattr(module, 'FETCHERS', {})
    same(fashion_mnist(root, nowhere), garments)  # the second time from there
    assert len(list(root.iterdir())) == 4


def test_debian_package_is_unpacked_without_root(
    files, garments, monkeypatch, tmp_path
):
    commands = []

    def run(command, cwd, **kwargs):
        commands.append(command)
        if command[0] == 'apt-get':
            (cwd / 'dataset-fashion-mnist_0_all.deb').touch()
        else:
            write(cwd / module.DEBIAN_FOLDER, garments)
        return subprocess.CompletedProcess(command, 0, '', '')

    monkeypatch.setattr(module.shutil, 'which', lambda tool: f'/bin/{tool}')
    monkeypatch.setattr(module.subprocess, 'run', run)
    folder = module.fetch_debian(tmp_path)
    same(module.read_arrays(folder), garments)
    assert commands == [
        ['apt-get', 'download', 'dataset-fashion-mnist'],
        ['dpkg-deb', '-x', 'dataset-fashion-mnist_0_all.deb', '.'],
    ]


def test_apt_get_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(module.shutil, 'which', lambda tool: f'/bin/{tool}')
    monkeypatch.setattr(
        module.subprocess,
        'run',
        lambda command, **kwargs: subprocess.CompletedProcess(
            command, 100, '', 'E: Unable to locate package\n'
        ),
    )
    with pytest.raises(OSError, match='apt-get download failed: E: Unable'):
        module.fetch_debian(tmp_path)


def test_no_apt_get(monkeypatch, tmp_path):
    monkeypatch.setattr(module.shutil, 'which', lambda tool: None)
    with pytest.raises(OSError, match='no apt-get'):
        module.fetch_debian(tmp_path)


def test_torchvision_is_given_a_time_limit(monkeypatch, tmp_path):
    import socket

    import torchvision.datasets

    def download(root, download):
        assert socket.getdefaulttimeout() == module.SILENCE
        raise OSError('timed out')

    monkeypatch.setattr(torchvision.datasets, 'FashionMNIST', download)
    with pytest.raises(OSError, match='timed out'):
        module.fetch_torchvision(tmp_path)
    assert socket.getdefaulttimeout() is None


def test_dataset(files, garments):
    data = DATASETS.build(
        dict(
            type='GarmentDataset',
            split='test',
            data_root=str(files),
            pipeline=[dict(type='PackInputs')],
        )
    )
    assert len(data) == 20
    item = data[3]
    assert item['inputs'].shape == (3, 28, 28)
    for channel in item['inputs'].numpy():
        np.testing.assert_array_equal(channel, garments.test_images[3])
    assert item['data_samples'].gt_label.item() == garments.test_labels[3]
    images, labels = data.arrays()
    assert images.shape == (20, 28, 28, 3)
    np.testing.assert_array_equal(labels, garments.test_labels)


def test_dataset_wrong_arguments(files):
    with pytest.raises(ValueError, match="split='val'"):
        GarmentDataset('val', str(files))


@pytest.mark.data
def test_the_real_files():
    found = [folder for folder in REAL if module.has_files(folder)]
    if not found:
        pytest.skip('Fashion-MNIST is not on this machine')
    arrays = fashion_mnist(found[0])
    assert arrays.train_images.shape == (60_000, 28, 28)
    assert arrays.test_images.shape == (10_000, 28, 28)
    np.testing.assert_array_equal(
        np.bincount(arrays.train_labels), [6_000] * 10
    )
    np.testing.assert_array_equal(
        np.bincount(arrays.test_labels), [1_000] * 10
    )
