"""Lists of a few images per class."""

import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest
from mmpretrain.datasets import CustomDataset, ImageNet

from mmssd.datasets.subsets import draw_subset, labelled_images, write_list

TOOL = Path(__file__).parents[2] / 'tools/dataset_converters/draw_subset.py'
COUNTS = dict(ant=6, bee=9, cow=5)


@pytest.fixture
def root(tmp_path):
    """Empty files: nothing is opened."""
    folder = tmp_path / 'images'
    for name, count in COUNTS.items():
        (folder / name / 'more').mkdir(parents=True)
        for index in range(count):
            inside = 'more/' if index == 0 else ''
            (folder / name / f'{inside}{index} .JPEG').touch()
        (folder / name / 'readme.txt').touch()
    return folder


def test_counts_and_labels(root):
    for count in (1, 3, 5):
        images = draw_subset(root, count)
        labels = Counter(label for _, label in images)
        assert labels == {0: count, 1: count, 2: count}
        assert len(set(images)) == 3 * count
        for name, label in images:
            assert (root / name).is_file()
            assert name.split('/')[0] == ['ant', 'bee', 'cow'][label]


def test_the_seed_decides(root):
    first = draw_subset(root, 4, seed=3)
    assert draw_subset(str(root), 4, seed=3) == first
    draws = {tuple(draw_subset(root, 4, seed=seed)) for seed in range(5)}
    assert len(draws) > 1
    # a smaller draw is part of a larger one
    assert set(draw_subset(root, 2, seed=3)) < set(first)


def test_draw_is_the_same_on_every_machine(root):
    """Depends on names and counts only, written down once."""
    drawn = [name for name, _ in draw_subset(root, 2, seed=0)]
    assert drawn == [
        'ant/3 .JPEG',
        'ant/more/0 .JPEG',
        'bee/2 .JPEG',
        'bee/4 .JPEG',
        'cow/3 .JPEG',
        'cow/more/0 .JPEG',
    ]


def test_list_is_read_by_mmpretrain(root, tmp_path):
    images = draw_subset(root, 2)
    path = tmp_path / 'meta' / 'two.txt'
    write_list(images, path)
    for dataset in (
        CustomDataset(data_prefix=str(root), ann_file=str(path)),
        ImageNet(
            data_root=str(tmp_path),
            data_prefix='images',
            ann_file='meta/two.txt',
        ),
    ):
        found = [dataset.get_data_info(i) for i in range(len(dataset))]
        assert [
            (Path(row['img_path']).relative_to(root).as_posix(), label)
            for row in found
            for label in [row['gt_label']]
        ] == images
    # of a list another can be drawn
    again, classes = labelled_images(root, path)
    assert again == images and classes == ['0', '1', '2']
    part = draw_subset(root, 1, ann_file=path)
    assert len(part) == 3 and set(part) < set(images)


def test_fewer_images_than_asked(root, tmp_path):
    with pytest.raises(
        ValueError, match=r'7 images .* 2 of 3 .*: ant \(6\), cow \(5\)$'
    ):
        draw_subset(root, 7)
    (root / 'dog').mkdir()
    with pytest.raises(ValueError, match=r'1 of 4 class.*dog \(0\)'):
        draw_subset(root, 1)
    path = tmp_path / 'list.txt'
    path.write_text('a b.png 0\nc.png 2\n')
    with pytest.raises(ValueError, match=r'1 of 3 class.*: 1 \(0\)'):
        draw_subset(root, 1, ann_file=path)


def test_bad_input(root, tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder .*gone'):
        draw_subset(tmp_path / 'gone', 1)
    with pytest.raises(FileNotFoundError, match='no list .*gone.txt'):
        draw_subset(root, 1, ann_file=tmp_path / 'gone.txt')
    with pytest.raises(ValueError, match='per_class=0'):
        draw_subset(root, 0)
    path = tmp_path / 'list.txt'
    path.write_text('a.png 0\nb.png\n')
    with pytest.raises(ValueError, match="line 2: 'b.png' is not"):
        draw_subset(root, 1, ann_file=path)
    path.write_text('\n')
    with pytest.raises(ValueError, match='is empty'):
        draw_subset(root, 1, ann_file=path)
    (tmp_path / 'bare').mkdir()
    with pytest.raises(ValueError, match='bare: no images'):
        draw_subset(tmp_path / 'bare', 1)


def call(*arguments):
    sys.argv = ['draw_subset.py', *map(str, arguments)]
    runpy.run_path(str(TOOL), run_name='__main__')


def test_tool(root, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [])
    out = tmp_path / 'lists' / 'four.txt'
    arguments = [root, out, '--per-class', 4]
    call(*arguments)
    said = capfd.readouterr().out
    assert '12 images, 4 of each of 3 classes, seed 0' in said
    first = out.read_text()
    assert len(first.splitlines()) == 12
    with pytest.raises(SystemExit):
        call(*arguments)
    assert 'exists: give another name' in capfd.readouterr().err
    call(*arguments, '--force')
    assert out.read_text() == first
    with pytest.raises(SystemExit):
        call(root, tmp_path / 'six.txt', '--per-class', 6)
    said = capfd.readouterr().err
    assert said.startswith('error: 6 images per class') and 'cow (5)' in said
    assert not (tmp_path / 'six.txt').exists()
