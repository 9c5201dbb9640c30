"""Small sets: every layout in miniature, and what may be wrong with it."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmssd.datasets.small_sets import (
    SETS,
    convert_camvid,
    convert_voc,
    copy_coco,
    make_small_sets,
    unpack_images,
    voc_to_coco,
)


def jpeg(value, size=(4, 4)):
    buffer = io.BytesIO()
    Image.new('RGB', size, (value,) * 3).save(buffer, 'JPEG')
    return buffer.getvalue()


def pack(path, **changes):
    """Two classes, three training images and two of test."""
    arrays = dict(classes=np.array(['n01 goldfish, a fish', 'n02 frog']))
    for split, labels in (('train', [1, 0, 1]), ('test', [0, 1])):
        files = [jpeg(40 * i + len(labels)) for i in range(len(labels))]
        arrays[f'{split}_blob'] = np.frombuffer(b''.join(files), np.uint8)
        arrays[f'{split}_offsets'] = np.cumsum([0, *map(len, files)])
        arrays[f'{split}_labels'] = np.array(labels, np.int16)
    arrays.update(changes)
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def test_images_of_arrays(tmp_path):
    counts = unpack_images(pack(tmp_path / 'a.npz'), tmp_path / 'out')
    assert counts == dict(train=3, test=2)
    found = sorted((tmp_path / 'out').rglob('*.jpg'))
    assert [str(path.relative_to(tmp_path / 'out')) for path in found] == [
        'test/n01/000000.jpg',
        'test/n02/000001.jpg',
        'train/n01/000001.jpg',
        'train/n02/000000.jpg',
        'train/n02/000002.jpg',
    ]
    assert found[4].read_bytes() == jpeg(83)  # 40 * 2 + 3, not recoded


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(classes=None), 'expected classes, and S_blob'),
        (dict(train_labels=None), 'has no train_labels'),
        (dict(train_labels=np.array([0, 1])), '4 train_offsets for 2 labels'),
        (dict(test_labels=np.array([0, 2])), 'test_labels from 0 to 2'),
        (dict(train_labels=np.array([1, 1, 1])), 'train has no image of n01'),
        (dict(test_blob=np.zeros(9, np.uint8)), 'of 9: the file is cut'),
        (dict(classes=np.array(['a b', 'a c'])), 'the same word'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_arrays_that_do_not_fit(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        unpack_images(pack(tmp_path / 'a.npz', **changes), tmp_path / 'out')


@pytest.fixture
def camvid(tmp_path):
    """Two classes and what does not count; two splits of one image."""
    root = tmp_path / 'camvid'
    (root / 'x').parent.mkdir()
    (root / 'classes.txt').write_text('sky\nroad\nunlabelled(ignore)\n')
    for split in ('train', 'test'):
        for name in (split, f'{split}annot'):
            (root / name).mkdir()
        (root / split / 'a.jpg').write_bytes(jpeg(9, (3, 2)))
        mask = np.array([[0, 1, 2], [2, 0, 1]], np.uint8)
        Image.fromarray(mask).save(root / f'{split}annot' / 'a.png')
    return root


def test_camvid(camvid, tmp_path):
    assert convert_camvid(camvid, tmp_path / 'out') == dict(test=1, train=1)
    mask = np.array(Image.open(tmp_path / 'out/train/masks/a.png'))
    assert mask.tolist() == [[0, 1, 255], [255, 0, 1]]
    image = (tmp_path / 'out/test/images/a.jpg').read_bytes()
    assert image == jpeg(9, (3, 2))
    assert (tmp_path / 'out/classes.txt').read_text() == 'sky\nroad\n'


def test_camvid_that_does_not_fit(camvid, tmp_path):
    mask = camvid / 'trainannot/a.png'
    Image.fromarray(np.full((2, 3), 3, np.uint8)).save(mask)
    with pytest.raises(ValueError, match='has the class 3; there are 2'):
        convert_camvid(camvid, tmp_path / 'a')
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(mask)
    with pytest.raises(ValueError, match=r'is \(3, 3\), its image \(2, 3\)'):
        convert_camvid(camvid, tmp_path / 'b')
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(mask)
    mask.rename(mask.with_name('b.png'))
    with pytest.raises(FileNotFoundError, match='1 images without mask: a'):
        convert_camvid(camvid, tmp_path / 'c')
    (camvid / 'train/a.jpg').rename(camvid / 'train/b.jpg')
    convert_camvid(camvid, tmp_path / 'd')
    mask.with_name('c.png').write_bytes(b'')
    with pytest.raises(FileNotFoundError, match='1 masks without image: c'):
        convert_camvid(camvid, tmp_path / 'e')


OBJECT = (
    '<object><name>{}</name><difficult>{}</difficult><bndbox>'
    '<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>'
    '</bndbox></object>'
)


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / 'voc'
    for folder in ('ImageSets/Main', 'Annotations', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    boxes = dict(
        a=[('kangaroo', 0, 1, 1, 10, 8)],
        b=[('raccoon', 0, 3, 2, 5, 4), ('kangaroo', 1, 2, 2, 2, 2)],
        c=[],
    )
    for name, objects in boxes.items():
        (root / f'JPEGImages/{name}.jpg').write_bytes(jpeg(9, (10, 8)))
        text = ''.join(OBJECT.format(*item) for item in objects)
        path = root / f'Annotations/{name}.xml'
        path.write_text(f'<annotation>{text}</annotation>')
    (root / 'ImageSets/Main/trainval.txt').write_text('a\nb\n')
    (root / 'ImageSets/Main/test.txt').write_text('c\n')
    return root


CLASSES = ('kangaroo', 'raccoon')


def test_boxes_of_voc(voc, tmp_path):
    assert convert_voc(voc, tmp_path / 'out', CLASSES) == dict(
        trainval=2, test=1
    )
    path = tmp_path / 'out/annotations/trainval.json'
    content = json.loads(path.read_text())
    assert content['categories'] == [
        dict(id=1, name='kangaroo'),
        dict(id=2, name='raccoon'),
    ]
    assert content['images'][0] == dict(
        id=1, file_name='a.jpg', width=10, height=8
    )
    # by hand: VOC counts from 1, and both ends of a box
    found = [
        (a['image_id'], a['category_id'], a['bbox'], a['area'], a['iscrowd'])
        for a in content['annotations']
    ]
    assert found == [
        (1, 1, [0, 0, 10, 8], 80, 0),
        (2, 2, [2, 1, 3, 3], 9, 0),
        (2, 1, [1, 1, 1, 1], 1, 1),
    ]
    assert (tmp_path / 'out/images/c.jpg').is_file()


def test_voc_that_does_not_fit(voc, tmp_path):
    with pytest.raises(ValueError, match="'raccoon', which is not among kang"):
        voc_to_coco(voc, 'trainval', ('kangaroo',))
    with pytest.raises(FileNotFoundError, match=r'no .*Main/val.txt'):
        voc_to_coco(voc, 'val', CLASSES)
    listed = voc / 'ImageSets/Main/test.txt'
    listed.write_text('c\na\n')
    with pytest.raises(ValueError, match='1 images are in trainval and in t'):
        convert_voc(voc, tmp_path / 'out', CLASSES)
    listed.write_text('c\nc\n')
    with pytest.raises(ValueError, match='lists an image twice'):
        voc_to_coco(voc, 'test', CLASSES)
    listed.write_text('c\nd\ne\n')
    with pytest.raises(FileNotFoundError, match='2 of 3 .*JPEGImages: d, e'):
        voc_to_coco(voc, 'test', CLASSES)
    (voc / 'JPEGImages/d.jpg').write_bytes(jpeg(9, (10, 8)))
    listed.write_text('d\n')
    with pytest.raises(FileNotFoundError, match='Annotations: d'):
        voc_to_coco(voc, 'test', CLASSES)
    for box in ((0, 1, 4, 4), (5, 1, 4, 4), (1, 1, 12, 4)):
        text = OBJECT.format('raccoon', 0, *box)
        (voc / 'Annotations/d.xml').write_text(f'<a>{text}</a>')
        with pytest.raises(ValueError, match='does not fit an image of 10 x'):
            voc_to_coco(voc, 'test', CLASSES)


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / 'coco_mini'
    (root / 'annotations').mkdir(parents=True)
    for number, split in enumerate(('train2017', 'val2017')):
        (root / split).mkdir()
        (root / split / f'{number}.jpg').write_bytes(jpeg(9))
        content = dict(
            images=[dict(id=number, file_name=f'{number}.jpg')],
            annotations=[dict(id=1, image_id=number, category_id=7)],
            categories=[dict(id=7, name='cat')],
        )
        write_coco(root, split, content)
    return root


def write_coco(root, split, content):
    path = root / f'annotations/instances_{split}.json'
    path.write_text(json.dumps(content))


def read_coco(root, split):
    path = root / f'annotations/instances_{split}.json'
    return json.loads(path.read_text())


def test_coco(coco, tmp_path):
    counts = copy_coco(coco, tmp_path / 'out')
    assert counts == dict(train2017=1, val2017=1)
    assert read_coco(tmp_path / 'out', 'val2017') == read_coco(coco, 'val2017')
    assert (tmp_path / 'out/train2017/0.jpg').is_file()


def test_coco_that_does_not_fit(coco, tmp_path):
    out = tmp_path / 'out'
    content = read_coco(coco, 'val2017')
    for key, value in (('image_id', 5), ('category_id', 9)):
        annotation = dict(content['annotations'][0], **{key: value})
        write_coco(coco, 'val2017', dict(content, annotations=[annotation]))
        with pytest.raises(ValueError, match=f'{key} {value}, which is not'):
            copy_coco(coco, out)
    others = [dict(id=7, name='dog')]
    write_coco(coco, 'val2017', dict(content, categories=others))
    with pytest.raises(ValueError, match='different classes: cat, dog'):
        copy_coco(coco, out)
    (coco / 'val2017/1.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 1 images are not in'):
        copy_coco(coco, out)
    assert not out.exists()


def test_all_sets(tmp_path, camvid, coco, voc):
    """Two from files, one from a folder; a second call keeps them."""
    source = tmp_path / 'source'
    source.mkdir()
    pack(source / 'cifar10_jpeg.npz')
    camvid.rename(source / 'camvid')
    with tarfile.open(source / 'kangaroo_raccoon_voc.tar', 'w') as archive:
        archive.add(voc, arcname='kangaroo_raccoon_voc')
    said = []
    out = tmp_path / 'small'
    counts = make_small_sets(source, out, say=said.append)
    assert counts == {
        'cifar10': dict(train=3, test=2),
        'camvid': dict(test=1, train=1),
        'kangaroo-raccoon': dict(trainval=2, test=1),
    }
    assert sorted(path.name for path in out.iterdir()) == sorted(counts)
    assert 'coco-mini: no coco_mini.tar in' in '\n'.join(said)
    said.clear()
    assert make_small_sets(source, out, say=said.append) == counts
    assert sum('there already' in text for text in said) == 3

    (out / 'camvid/done.json').unlink()
    with pytest.raises(FileExistsError, match='camvid exists and was not'):
        make_small_sets(source, out, ['camvid'])
    make_small_sets(source, out, ['camvid'], force=True, say=said.append)
    assert (out / 'camvid/done.json').is_file()
    with pytest.raises(ValueError, match='mnist: there are cifar10, tiny-im'):
        make_small_sets(source, out, ['mnist'])
    with pytest.raises(FileNotFoundError, match='has none of coco_mini.tar'):
        make_small_sets(source, out, ['coco-mini', 'camvid'])
    # what is wrong leaves nothing behind that looks finished
    pack(source / 'cifar10_jpeg.npz', train_labels=None)
    with pytest.raises(ValueError, match='has no train_labels'):
        make_small_sets(source, tmp_path / 'other', ['cifar10'])
    assert not (tmp_path / 'other/cifar10').exists()


def test_the_tool(tmp_path, capsys):
    import importlib.util
    from pathlib import Path

    name = 'tools/dataset_converters/small_sets.py'
    path = Path(__file__).parents[2] / name
    spec = importlib.util.spec_from_file_location('small_sets', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    pack(tmp_path / 'cifar10_jpeg.npz')
    out = tmp_path / 'out'
    tool.main([str(tmp_path), '--out', str(out), '--only', 'cifar10'])
    assert "cifar10: {'test': 2, 'train': 3}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as info:
        tool.main([str(tmp_path), '--out', str(out), '--only', 'camvid'])
    assert info.value.code == 1
    assert 'has none of camvid.tar' in capsys.readouterr().err
    assert set(SETS) >= {'camvid', 'cifar10'}
