import json

import pytest
from mmpretrain.datasets import CustomDataset

from mmssd.datasets.image_lists import (
    list_folder,
    published_list,
    stratified_list,
    tiny_imagenet_val,
    write_list,
)


@pytest.fixture
def folder(tmp_path):
    """Three classes of 4, 10 and 30 images."""
    for name, count in (('n2', 10), ('n1', 4), ('n3', 30)):
        inside = tmp_path / 'train' / name
        inside.mkdir(parents=True)
        for i in range(count):
            (inside / f'{name}_{i}.JPEG').touch()
    (tmp_path / 'train/n1/notes.txt').touch()
    return tmp_path


def test_lists_a_folder_and_some_of_its_classes(folder):
    samples = list_folder(folder / 'train')
    assert len(samples) == 44
    assert samples[0] == ('n1/n1_0.JPEG', 0)
    assert [sum(y == c for _, y in samples) for c in range(3)] == [4, 10, 30]
    some = list_folder(folder / 'train', ['n3', 'n1'])
    assert len(some) == 34
    assert dict(some)['n3/n3_7.JPEG'] == 0


def test_shares_are_stratified_nested_and_repeatable(folder):
    samples = list_folder(folder / 'train')
    tenth = stratified_list(samples, 0.1)
    half = stratified_list(samples, 0.5)
    assert [sum(y == c for _, y in tenth) for c in range(3)] == [1, 1, 3]
    assert [sum(y == c for _, y in half) for c in range(3)] == [2, 5, 15]
    assert set(tenth) < set(half)
    assert stratified_list(samples[::-1], 0.1) == tenth
    assert stratified_list(samples, 0.5, seed=1) != half
    with pytest.raises(ValueError, match='fraction=2'):
        stratified_list(samples, 2)


def test_every_line_of_a_published_list_counts(folder):
    samples = list_folder(folder / 'train')
    lines = ['n3_4.JPEG', 'n1/n1_2.JPEG', '', 'n3_11.JPEG']
    assert published_list(lines, samples) == [
        ('n1/n1_2.JPEG', 0),
        ('n3/n3_11.JPEG', 2),
        ('n3/n3_4.JPEG', 2),
    ]
    with pytest.raises(ValueError, match='1 of 2 listed .*: n9_1.JPEG'):
        published_list(['n9_1.JPEG', 'n3_4.JPEG'], samples)
    with pytest.raises(ValueError, match='1 images twice'):
        published_list(['n3_4.JPEG', 'n3_4.JPEG'], samples)


@pytest.mark.parametrize(
    ('fraction', 'count', 'fits'),
    [
        (0.1, 20, True),
        (0.1, 21, True),
        (0.1, 19, True),
        (0.1, 22, False),
        (0.1, 18, False),
        (0.1, 2, False),  # the list of 1 %
        (0.01, 2, True),
        (0.01, 20, False),  # the list of 10 %
        (0.5, 95, True),
        (0.5, 105, True),
        (0.5, 94, False),
        (0.5, 106, False),
        (1, 200, True),
    ],
)
def test_a_published_list_has_the_size_of_its_share(fraction, count, fits):
    samples = [(f'n1/{i}.JPEG', 0) for i in range(200)]
    lines = [path for path, _ in samples[:count]]
    if fits:
        assert len(published_list(lines, samples, fraction)) == count
        return
    with pytest.raises(
        ValueError,
        match=f'names {count} images, but {100 * fraction:g} % of the 200 in '
        f'the folder are {200 * fraction:.0f}: .* {count / 200:g}$',
    ):
        published_list(lines, samples, fraction)
    assert len(published_list(lines, samples)) == count


def test_mmpretrain_reads_a_list(folder):
    chosen = stratified_list(list_folder(folder / 'train'), 0.1)
    path = write_list(folder / 'meta/train_10percent.txt', chosen, 'a draw')
    dataset = CustomDataset(
        data_root=str(folder),
        ann_file='meta/train_10percent.txt',
        data_prefix='train',
        pipeline=[],
    )
    assert len(dataset) == 5
    assert [dataset.get_data_info(i)['gt_label'] for i in range(5)] == [
        y for _, y in chosen
    ]
    image = dataset.get_data_info(0)['img_path']
    assert image.endswith(f'train/{chosen[0][0]}')
    record = json.loads(path.with_suffix('.json').read_text())
    assert record['origin'] == 'a draw'
    assert (record['images'], record['classes']) == (5, 3)
    with pytest.raises(FileExistsError, match='--force'):
        write_list(path, chosen, 'a draw')
    write_list(path, chosen[:1], 'another', force=True)
    assert path.read_text() == f'{chosen[0][0]} 0\n'


def test_tiny_imagenet(tmp_path):
    with pytest.raises(FileNotFoundError, match='val_annotations'):
        tiny_imagenet_val(tmp_path, ['n1'])
    (tmp_path / 'val').mkdir()
    path = tmp_path / 'val/val_annotations.txt'
    path.write_text('val_0.JPEG\tn2\t0\t1\t2\t3\nval_1.JPEG\tn1\t0\t1\t2\t3\n')
    assert tiny_imagenet_val(tmp_path, ['n1', 'n2']) == [
        ('val_0.JPEG', 1),
        ('val_1.JPEG', 0),
    ]
    with pytest.raises(ValueError, match='line 1'):
        tiny_imagenet_val(tmp_path, ['n1'])


def test_bad_folders(folder):
    with pytest.raises(FileNotFoundError, match='no folder'):
        list_folder(folder / 'none')
    with pytest.raises(FileNotFoundError, match='has no folders'):
        list_folder(folder / 'train/n1')
    with pytest.raises(FileNotFoundError, match="class 'n9'"):
        list_folder(folder / 'train', ['n9'])
    (folder / 'train/n4').mkdir()
    with pytest.raises(ValueError, match="class 'n4': no image"):
        list_folder(folder / 'train')
