"""The converters as users call them."""

import importlib.util
import json
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools/dataset_converters'


def call(name, *arguments):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def call_badly(capsys, name, *arguments):
    with pytest.raises(SystemExit) as info:
        call(name, *arguments)
    assert info.value.code == 1
    return capsys.readouterr().err


def test_coco_subsets(tmp_path, capsys):
    content = dict(
        images=[dict(id=i, file_name=f'{i}.jpg') for i in range(20)],
        annotations=[
            dict(id=i, image_id=i, category_id=i % 2) for i in range(19)
        ],
        categories=[dict(id=c, name='ab'[c]) for c in range(2)],
    )
    source = tmp_path / 'train.json'
    source.write_text(json.dumps(content))
    base = ('coco_subsets', source, '--sizes', 1, 4)
    call(*base, '--out-dir', tmp_path / 'out')
    said = capsys.readouterr().out
    assert 'the 5 subsets of 4 are disjoint' in said
    assert 'without ' in said  # one image has one class at most
    files = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert files[:2] == ['train_1_1.json', 'train_1_2.json']
    assert len(files) == 10
    seen = [
        image['id']
        for path in (tmp_path / 'out').glob('train_4_*.json')
        for image in json.loads(path.read_text())['images']
    ]
    assert sorted(seen) == list(range(20))
    said = call_badly(capsys, *base, '--out-dir', tmp_path / 'out')
    assert 'train_1_1.json' in said and '--force' in said
    said = call_badly(capsys, *base, '--images', tmp_path)
    assert '20 of 20 images are not in' in said
    said = call_badly(capsys, 'coco_subsets', source)
    assert '5 subsets of 1000 images' in said
    assert len(list(tmp_path.glob('*.json'))) == 1


@pytest.fixture
def images(tmp_path):
    for split, count in (('train', 20), ('val', 2)):
        for name in ('n1', 'n2', 'n3'):
            inside = tmp_path / split / name
            inside.mkdir(parents=True)
            for i in range(count):
                (inside / f'{name}_{split}_{i}.JPEG').touch()
    return tmp_path


def test_image_lists(images, capsys):
    call('image_lists', images, '--fraction', 0.1)
    assert 'not a published list' in capsys.readouterr().out
    path = images / 'meta/train_10percent.txt'
    assert len(path.read_text().splitlines()) == 6
    published = images / '5percent.txt'
    published.write_text('n1_train_0.JPEG\nn3_train_7.JPEG\n')
    base = ('image_lists', images, '--published', published)
    said = call_badly(capsys, *base, '--fraction', 0.5)
    assert '2 images, but 50 % of the 60 in the folder are 30' in said
    assert not (images / 'meta/train_50percent.txt').exists()
    call(*base, '--fraction', 0.05)
    path = images / 'meta/train_5percent.txt'
    assert path.read_text() == 'n1/n1_train_0.JPEG 0\nn3/n3_train_7.JPEG 2\n'
    origin = json.loads(path.with_suffix('.json').read_text())['origin']
    assert origin == 'published list 5percent.txt'
    said = call_badly(capsys, 'image_lists', images, '--fraction', 0.05)
    assert '--force' in said


def test_low_shot_lists(images, capsys):
    call('image_lists', images, '--per-class', 2, '--seed', 1)
    lines = (images / 'meta/train_2perclass.txt').read_text().splitlines()
    assert [line.split()[1] for line in lines] == list('001122')
    assert len(set(lines)) == 6
    assert 'stratified draw of mmssd, seed 1' in capsys.readouterr().out
    said = call_badly(capsys, 'image_lists', images, '--per-class', 21)
    assert 'per_class=21: class 0 has only 20 rows' in said
    base = ('image_lists', images, '--per-class', 1)
    said = call_badly(capsys, *base, '--published', 'any.txt')
    assert '--published goes with --fraction' in said


def test_lists_of_some_classes(images, capsys):
    names = images / 'two.txt'
    names.write_text('n3 a\nn1 b\n')
    call('image_lists', images, '--classes', names)
    path = images / 'meta/val_2classes.txt'
    assert path.read_text().splitlines()[0] == 'n3/n3_val_0.JPEG 0'
    call('image_lists', images, '--num-classes', 1, '--seed', 3)
    assert 'classes drawn by mmssd, seed 3' in capsys.readouterr().out
    said = call_badly(capsys, 'image_lists', images, '--num-classes', 4)
    assert '--num-classes 4' in said
    said = call_badly(
        capsys, 'image_lists', images, '--num-classes', 1, '--published', names
    )
    assert '--published goes with --fraction' in said
