import copy
import json

import pytest

from mmssd.datasets.coco_subsets import (
    check_images,
    check_subsets,
    coco_subsets,
)


@pytest.fixture
def content():
    """23 images; image i has i % 3 annotations of class 1 + i % 4."""
    images = [dict(id=10 * i, file_name=f'{i}.jpg') for i in range(23)]
    annotations = [
        dict(id=100 * i + j, image_id=10 * i, category_id=1 + i % 4)
        for i in range(23)
        for j in range(i % 3)
    ]
    categories = [dict(id=c, name='abcd'[c - 1]) for c in range(1, 5)]
    return dict(
        info=dict(year=2017),
        images=images,
        annotations=annotations,
        categories=categories,
    )


def ids(subset):
    return [image['id'] for image in subset['images']]


def test_disjoint_nested_and_whole(content):
    before = copy.deepcopy(content)
    small = coco_subsets(content, 2)
    large = coco_subsets(content, 4)
    assert content == before
    assert [len(s['images']) for s in small] == [2] * 5
    seen = [i for subset in large for i in ids(subset)]
    assert len(seen) == len(set(seen)) == 20
    for a, b in zip(small, large, strict=True):
        assert set(ids(a)) < set(ids(b))
        assert ids(b) == sorted(ids(b))  # in the order of the file
        wanted = [x for x in content['annotations'] if x['image_id'] in ids(b)]
        assert b['annotations'] == wanted
        assert b['categories'] == content['categories']
        assert b['info'] == dict(year=2017)


def test_seed(content):
    assert coco_subsets(content, 4) == coco_subsets(content, 4)
    first, second = (coco_subsets(content, 4, seed=s) for s in (0, 1))
    assert [ids(s) for s in first] != [ids(s) for s in second]
    # numpy's RandomState(0).permutation(23)[:4] is 11, 19, 16, 5
    import numpy as np

    order = np.random.RandomState(0).permutation(23)
    assert ids(first[0]) == sorted(10 * order[:4])
    assert ids(first[4]) == sorted(10 * order[16:20])


def test_coverage(content):
    subset = dict(
        images=content['images'][:3],
        annotations=content['annotations'][:3],  # images 1 and 2
        categories=content['categories'],
    )
    other = dict(subset, images=content['images'][3:4], annotations=[])
    assert check_subsets([subset, other]) == [
        ['a', 'd'],
        ['a', 'b', 'c', 'd'],
    ]
    other['images'] = content['images'][2:4]
    with pytest.raises(ValueError, match='20 is in subset 1 and in subset 2'):
        check_subsets([subset, other])


def test_bad_input(content, tmp_path):
    with pytest.raises(ValueError, match='5 subsets of 5 images are 25'):
        coco_subsets(content, 5)
    with pytest.raises(ValueError, match='size=0'):
        coco_subsets(content, 0)
    with pytest.raises(ValueError, match='count=0'):
        coco_subsets(content, 1, 0)
    content['annotations'].append(dict(id=9, image_id=7, category_id=1))
    with pytest.raises(ValueError, match='such as image_id 7'):
        coco_subsets(content, 4)
    content['images'].append(content['images'][0])
    with pytest.raises(ValueError, match='twice'):
        coco_subsets(content, 4)
    (tmp_path / '0.jpg').touch()
    with pytest.raises(FileNotFoundError, match='22 of 23 .*1.jpg, 2.jpg'):
        content['images'].pop()
        check_images(content, tmp_path)


def test_mmdet_reads_a_subset(content, tmp_path):
    pytest.importorskip('mmdet')
    from mmdet.datasets import CocoDataset

    for image in content['images']:
        image.update(width=8, height=8)
    for annotation in content['annotations']:
        annotation.update(bbox=[0, 0, 4, 4], area=16, iscrowd=0)
    subset = coco_subsets(content, 4)[2]
    path = tmp_path / 'subset.json'
    path.write_text(json.dumps(subset))
    dataset = CocoDataset(
        ann_file=str(path),
        data_prefix=dict(img=''),
        metainfo=dict(classes=tuple('abcd')),
    )
    dataset.full_init()
    assert len(dataset) == 4
    found = sum(len(dataset.get_data_info(i)['instances']) for i in range(4))
    assert found == len(subset['annotations'])
