import numpy as np
import pytest

from mmssd.datasets.stl10 import STL10


@pytest.fixture
def folder(tmp_path):
    """Two images; byte order of the authors: channel, column, row."""
    inside = tmp_path / 'stl10_binary'
    inside.mkdir()
    pixels = np.zeros((2, 3, 96, 96), dtype=np.uint8)
    pixels[0, 2, 7, 5] = 200  # blue, column 7, row 5
    pixels[1, 0, 95, 0] = 100  # red, last column, first row
    pixels.tofile(inside / 'train_X.bin')
    np.array([10, 1], dtype=np.uint8).tofile(inside / 'train_y.bin')
    return tmp_path


def test_reads_the_files_of_the_authors(folder):
    dataset = STL10(str(folder), 'train', pipeline=[])
    assert len(dataset) == 2
    assert [dataset[i]['gt_label'] for i in range(2)] == [9, 0]
    assert dataset.metainfo['classes'][9] == 'truck'
    image = dataset[0]['img']
    assert image.shape == (96, 96, 3)
    assert image[5, 7].tolist() == [0, 0, 200]
    assert image.sum() == 200
    assert dataset[1]['img'][0, 95].tolist() == [100, 0, 0]
    inside = STL10(str(folder / 'stl10_binary'), pipeline=[])
    assert len(inside) == 2


def test_bad_files(folder):
    with pytest.raises(ValueError, match="split='val'"):
        STL10(str(folder), 'val')
    with pytest.raises(FileNotFoundError, match=r'test_X\.bin'):
        STL10(str(folder), 'test')
    labels = folder / 'stl10_binary/train_y.bin'
    labels.write_bytes(b'\x01\x00')
    with pytest.raises(ValueError, match='1 to 10'):
        STL10(str(folder))
    labels.write_bytes(b'\x01')
    with pytest.raises(ValueError, match='images of 1 labels'):
        STL10(str(folder))
