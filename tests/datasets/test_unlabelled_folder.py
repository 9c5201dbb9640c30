from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS
from PIL import Image

from mmssd.datasets.transforms.loading import LoadImage
from mmssd.datasets.unlabelled_folder import UnlabelledFolder

PICTURES = [
    'a.jpg',
    'B.JPEG',
    'c.png',
    'd.webp',
    'e.tif',
    'f.TIFF',
    'g.bmp',
    'deep/er/h.Png',
    'name with space.jpg',
]
OTHERS = ['.hidden.jpg', '.thumbs/i.jpg', 'notes.txt', 'video.mp4', 'noext']


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'pictures'
    for number, name in enumerate(PICTURES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 6), (20 * number, 0, 0)).save(path)
    for name in OTHERS:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'x')
    return root


def names(data, root):
    return [
        str(Path(data.get_data_info(i)['img_path']).relative_to(root))
        for i in range(len(data))
    ]


def test_every_picture_and_nothing_else(folder):
    init_default_scope('mmpretrain')
    data = DATASETS.build(
        dict(
            type='UnlabelledFolder',
            data_root=str(folder),
            pipeline=[LoadImage(), dict(type='PackInputs')],
        )
    )
    assert names(data, folder) == sorted(PICTURES)
    for item in data:
        assert item['inputs'].shape == (3, 6, 8)
        assert 'gt_label' not in item['data_samples']


def test_links_are_followed_but_not_in_circles(folder, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()
    Image.new('L', (4, 4)).save(elsewhere / 'z.png')
    (folder / 'linked').symlink_to(elsewhere)
    (folder / 'deep' / 'circle').symlink_to(folder)
    data = UnlabelledFolder(str(folder))
    assert names(data, folder) == sorted([*PICTURES, 'linked/z.png'])


def test_list(folder, tmp_path):
    (folder / 'some.txt').write_text('c.png\n\n  deep/er/h.Png \n')
    data = UnlabelledFolder(str(folder), ann_file='some.txt')
    assert names(data, folder) == ['c.png', 'deep/er/h.Png']
    absolute = tmp_path / 'list.txt'
    absolute.write_text('name with space.jpg\n')
    data = UnlabelledFolder(str(folder), ann_file=str(absolute))
    assert names(data, folder) == ['name with space.jpg']


def test_own_extensions(folder):
    data = UnlabelledFolder(str(folder), extensions=('.bmp',))
    assert names(data, folder) == ['g.bmp']


def test_home(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder.parent))
    assert len(UnlabelledFolder('~/pictures')) == len(PICTURES)


def test_no_folder_given():
    with pytest.raises(ValueError, match='data_root'):
        UnlabelledFolder()


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        UnlabelledFolder(str(tmp_path / 'nope'))
    message = str(caught.value)
    assert str(tmp_path / 'nope') in message
    assert '--cfg-options' in message


def test_empty_folder(tmp_path):
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(FileNotFoundError) as caught:
        UnlabelledFolder(str(tmp_path))
    message = str(caught.value)
    assert str(tmp_path) in message
    assert '.jpg' in message and '.webp' in message


def test_missing_list(folder):
    with pytest.raises(FileNotFoundError, match='there is no list'):
        UnlabelledFolder(str(folder), ann_file='none.txt')


def test_empty_list(folder):
    (folder / 'some.txt').write_text('\n')
    with pytest.raises(FileNotFoundError, match='holds no picture'):
        UnlabelledFolder(str(folder), ann_file='some.txt')


def test_list_that_does_not_fit(folder):
    (folder / 'some.txt').write_text('pictures/c.png\n')
    with pytest.raises(FileNotFoundError, match='relative to data_root'):
        UnlabelledFolder(str(folder), ann_file='some.txt')


def test_images_differ(folder):
    data = UnlabelledFolder(str(folder), pipeline=[LoadImage()])
    values = {int(np.round(item['img'][..., 2].mean(), -1)) for item in data}
    assert len(values) == len(PICTURES)
