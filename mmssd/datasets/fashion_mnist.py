"""Fashion-MNIST without an account or a download page."""

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.dist import barrier, is_main_process
from mmengine.logging import MMLogger
from mmpretrain.registry import DATASETS

from .array_dataset import ArrayDataset

CLASSES = (
    't-shirt',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle boot',
)
PALETTE = (
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (250, 190, 212),
)
DEBIAN_PACKAGE = 'dataset-fashion-mnist'
DEBIAN_FOLDER = Path('usr/share/datasets/fashion-mnist')
# of the unpacked content: the packers differ between sources
SHA256 = {
    'train-images-idx3-ubyte': (
        'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888'
    ),
    'train-labels-idx1-ubyte': (
        'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9'
    ),
    't10k-images-idx3-ubyte': (
        '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b'
    ),
    't10k-labels-idx1-ubyte': (
        '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34'
    ),
}
HEADERS = {'images': 16, 'labels': 8}  # bytes before the data
TIMEOUT = 300  # seconds for a program to finish
SILENCE = 30  # seconds without a byte from a server


@dataclass
class FashionMNISTArrays:
    """60,000 + 10,000 garments of 10 classes on black.

    Attributes:
        train_images, test_images: ``(n, 28, 28)`` uint8.
        train_labels, test_labels: ``(n,)`` uint8 in 0..9.
        classes: names by label.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...] = CLASSES

    def split(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels of ``'train'``, or else of the test."""
        if name == 'train':
            return self.train_images, self.train_labels
        return self.test_images, self.test_labels

    def sha256(self) -> str:
        """Return one checksum of all four arrays."""
        digest = hashlib.sha256()
        for name in ('train', 'test'):
            for array in self.split(name):
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def _read(folder: Path, name: str) -> bytes:
    """Unpack one file and verify its checksum."""
    packed, plain = folder / f'{name}.gz', folder / name
    path = packed if packed.is_file() else plain
    try:
        content = path.read_bytes()
        if path is packed:
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[name]:
        raise ValueError(
            f'{path} is not the Fashion-MNIST file: SHA-256 {digest}, '
            f'expected {SHA256[name]}; delete it and run again'
        )
    return content


def read_arrays(folder: str | Path) -> FashionMNISTArrays:
    """Read the four files of a folder, packed (``.gz``) or not.

    Raises:
        ValueError: if a file cannot be read or its checksum is wrong.
    """
    folder = Path(folder)
    arrays = {}
    for name in SHA256:
        kind = 'images' if 'images' in name else 'labels'
        data = np.frombuffer(
            _read(folder, name), dtype=np.uint8, offset=HEADERS[kind]
        )
        split = 'train' if name.startswith('train') else 'test'
        shape = (-1, 28, 28) if kind == 'images' else (-1,)
        arrays[f'{split}_{kind}'] = data.reshape(shape)
    return FashionMNISTArrays(**arrays)


def has_files(folder: str | Path) -> bool:
    """Whether a folder holds all four files, packed or not."""
    folder = Path(folder)
    return all(
        (folder / f'{name}.gz').is_file() or (folder / name).is_file()
        for name in SHA256
    )


def _keep(source: Path, root: Path) -> FashionMNISTArrays:
    """Verify fetched files, then copy them into the data folder."""
    arrays = read_arrays(source)
    root.mkdir(parents=True, exist_ok=True)
    for name in SHA256:
        found = source / f'{name}.gz'
        if not found.is_file():
            found = source / name
        # never a half-written file under its final name
        part = root / f'{found.name}.part'
        shutil.copyfile(found, part)
        part.replace(root / found.name)
    return arrays


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=dict(os.environ, LC_ALL='C'),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    if done.returncode:
        said = ' '.join(done.stderr.split())[-300:]
        raise OSError(f'{" ".join(command[:2])} failed: {said}')


def fetch_debian(folder: Path) -> Path:
    """Fetch and unpack Debian's package into a folder, without root.

    Returns:
        The folder of the four files.

    Raises:
        OSError: if it cannot be done, with what apt-get or dpkg-deb said.
    """
    for tool in ('apt-get', 'dpkg-deb'):
        if shutil.which(tool) is None:
            raise OSError(f'this machine has no {tool}')
    _run(['apt-get', 'download', DEBIAN_PACKAGE], folder)
    for package in folder.glob('*.deb'):
        _run(['dpkg-deb', '-x', package.name, '.'], folder)
    return folder / DEBIAN_FOLDER


def fetch_torchvision(folder: Path) -> Path:
    """Fetch the four files by torchvision's downloader.

    Returns:
        The folder of the four files.

    Raises:
        OSError: if the server cannot be reached or is silent for long.
        RuntimeError: if what came is not what it should be.
    """
    from torchvision.datasets import FashionMNIST

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)  # it waits for ever by itself
    try:
        FashionMNIST(str(folder), download=True)
    finally:
        socket.setdefaulttimeout(timeout)
    return folder / 'FashionMNIST' / 'raw'


FETCHERS = {
    f'apt-get download {DEBIAN_PACKAGE}': fetch_debian,
    "torchvision's downloader": fetch_torchvision,
}


def fashion_mnist(
    root: str | Path = 'data/fashion_mnist',
    installed: str | Path = Path('/') / DEBIAN_FOLDER,
) -> FashionMNISTArrays:
    """Return Fashion-MNIST, fetching it once if it is nowhere yet.

    `Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
    Algorithms <https://arxiv.org/abs/1708.07747>`_, MIT licence. Looked for
    in ``root``, then in the installed Debian package, then fetched as that
    package without root rights, then by torchvision's downloader. The
    checksums are verified whatever the source.

    Args:
        root: folder of the four files, packed or not; fetched ones are kept
            there.
        installed: where the Debian package puts them.

    Raises:
        FileNotFoundError: if every way fails, naming all of them and the
            folder where the files may be put by hand.
        ValueError: if a file that is there has the wrong checksum.
    """
    root = Path(root).expanduser()
    for folder in (root, Path(installed)):
        if has_files(folder):
            return read_arrays(folder)
    logger = MMLogger.get_current_instance()
    failures = []
    for way, fetch in FETCHERS.items():
        logger.info(f'fetching Fashion-MNIST into {root} by {way}')
        try:
            with tempfile.TemporaryDirectory() as folder:
                return _keep(fetch(Path(folder)), root)
        except (
            OSError,
            RuntimeError,
            ValueError,
            subprocess.TimeoutExpired,
        ) as error:
            failures.append(f'  {way}: {error}')
    names = ', '.join(f'{name}.gz' for name in SHA256)
    raise FileNotFoundError(
        f'Fashion-MNIST is neither in {root.absolute()} nor in {installed}, '
        'and could not be fetched:\n' + '\n'.join(failures) + '\n'
        f'Do one of these: (1) apt-get install {DEBIAN_PACKAGE}; (2) apt-get '
        'update, then again: apt-get download may have failed over an old '
        "package list; (3) give torchvision's downloader a network; or put "
        f'{names} into {root.absolute()} by hand'
    )


@DATASETS.register_module()
class GarmentDataset(ArrayDataset):
    """Fashion-MNIST with three channels, as an mmpretrain data set.

    Fetched where it is missing, see :func:`fashion_mnist`; mmpretrain's own
    ``FashionMNIST`` gives grey images from one server. Items have ``img``
    uint8 ``(28, 28, 3)`` and ``gt_label``.

    Args:
        split (str): ``'train'`` or ``'test'``.
        data_root (str): folder of the four files.
        subset (float, optional): keep this fraction of every class, see
            :class:`ArrayDataset`.
        seed (int): of the subset.
        **kwargs: of mmpretrain's ``BaseDataset``, such as ``pipeline``.

    Raises:
        FileNotFoundError: if the files are nowhere and cannot be fetched.
        ValueError: for an unknown split, a fraction outside (0, 1], or a
            file with a wrong checksum.
    """

    METAINFO = dict(classes=CLASSES, palette=PALETTE)

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/fashion_mnist',
        subset: float | None = None,
        seed: int = 0,
        **kwargs,
    ) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split={split!r}: must be 'train' or 'test'")
        self.split = split
        if is_main_process():
            arrays = fashion_mnist(data_root)
        barrier()  # one process fetches for all
        if not is_main_process():
            arrays = fashion_mnist(data_root)
        super().__init__(
            *arrays.split(split),
            subset=subset,
            seed=seed,
            data_root=str(data_root),
            **kwargs,
        )
