"""Clusters as labels: by hand, stable by seed, and the lists on disk."""

import pytest
import torch
from mmpretrain.registry import DATASETS
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from mmssd.evaluation.pseudo_labels import (
    assign_clusters,
    cluster_features,
    write_annotations,
)


def blobs(n=30, seed=0):
    """Three directions of any length, far from each other."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(n) % 3
    rows = torch.eye(3)[truth] + 0.05 * torch.randn(n, 3, generator=generator)
    return rows * (1 + torch.arange(n)[:, None]), truth


def test_finds_directions_whatever_their_length():
    rows, truth = blobs()
    labels, centres = cluster_features(rows, 3)
    assert adjusted_rand_score(truth, labels) == 1.0
    assert centres.shape == (3, 3)
    for cluster in range(3):
        members = torch.nn.functional.normalize(rows[labels == cluster])
        torch.testing.assert_close(centres[cluster], members.mean(0))


@pytest.mark.parametrize('batch_size', [None, 64])
def test_stable_by_seed(batch_size):
    rows = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    first, second, other = (
        cluster_features(rows, 8, batch_size=batch_size, seed=seed)[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_assignment_by_hand():
    centres = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    # (0, 9) -> (0, 1): distances 2 and 0.25; (9, 9) -> 0.586 and 0.543
    rows = torch.tensor([[0.0, 9.0], [9.0, 0.0], [9.0, 9.0]])
    assert assign_clusters(rows, centres).tolist() == [1, 0, 1]


def test_list_is_read_by_the_dataset(tmp_path):
    names = ['a/1.png', 'b/with space.png', 'b/2.png']
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new('RGB', (4, 4)).save(tmp_path / name)
    path = tmp_path / 'meta/train.txt'
    write_annotations(
        path,
        [str(tmp_path / n) for n in names],
        torch.tensor([2, 0, 1]),
        tmp_path,
    )
    dataset = DATASETS.build(
        dict(
            type='mmpretrain.CustomDataset',
            data_root=str(tmp_path),
            ann_file='meta/train.txt',
            pipeline=[],
        )
    )
    assert [dataset.get_data_info(i)['gt_label'] for i in range(3)] == [
        2,
        0,
        1,
    ]
    assert dataset.get_data_info(1)['img_path'].endswith('with space.png')


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: cluster_features(torch.ones(2, 2), 3), 'num_clusters=3'),
        (lambda: cluster_features(torch.ones(5, 2), 2), 'only 1 are in use'),
        (lambda: cluster_features(torch.ones(2, 2) / 0, 1), 'NaN'),
        (
            lambda: assign_clusters(torch.ones(2, 2), torch.ones(2, 3)),
            'width 2 and centres of width 3',
        ),
        (lambda: write_annotations('x', ['a'], []), '1 images and 0 labels'),
        (lambda: write_annotations('x', ['/b/a'], [0], '/c'), 'not below /c'),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
