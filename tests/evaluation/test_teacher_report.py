"""Statistics of embeddings by hand, and what they are taken for."""

import math

import pytest
import torch

from mmssd.evaluation.teacher_report import diagnose, embedding_statistics


def test_orthogonal_rows():
    rows = 3 * torch.eye(4)
    found = embedding_statistics(rows)
    assert found['width'] == 4
    assert found['norm_mean'] == found['norm_min'] == found['norm_max'] == 3
    assert found['mean_cosine'] == pytest.approx(0)
    # a dimension is 1 once in four: variance 1/4 - 1/16 = 3/16
    assert found['std'] == pytest.approx(2 * math.sqrt(3 / 16))
    # less their mean, three equal singular values are left
    assert found['effective_rank'] == pytest.approx(3)
    assert diagnose(found, 'features') == ''


def test_two_directions():
    # cosines: four of six pairs orthogonal, one pair of each kind equal
    rows = torch.tensor([[2.0, 0], [5, 0], [0, 1], [0, 7]])
    found = embedding_statistics(rows)
    assert found['norm_mean'] == 3.75
    assert (found['norm_min'], found['norm_max']) == (1, 7)
    assert found['mean_cosine'] == pytest.approx(2 / 6)
    assert found['std'] == pytest.approx(math.sqrt(2) * 0.5)
    # less their mean they lie on one line
    assert found['effective_rank'] == pytest.approx(1)
    assert 'span 1.00 dimensions of 2' in diagnose(found, 'features')


def test_against_slow_loops():
    rows = torch.randn(7, 5).double() + 1
    unit = [row / row.square().sum().sqrt() for row in rows]
    pairs = [
        (unit[i] @ unit[j]).item()
        for i in range(7)
        for j in range(7)
        if i != j
    ]
    centred = torch.stack(unit) - torch.stack(unit).mean(0)
    sigma = torch.linalg.eigvalsh(centred.T @ centred).clamp_min(0).sqrt()
    p = sigma / sigma.sum()
    found = embedding_statistics(rows)
    assert found['mean_cosine'] == pytest.approx(sum(pairs) / len(pairs))
    assert found['effective_rank'] == pytest.approx(
        math.exp(-sum(q * math.log(q) for q in p.tolist() if q > 0))
    )


def test_one_vector_for_all():
    rows = torch.ones(5, 8) + 1e-3 * torch.randn(5, 8)
    found = embedding_statistics(rows)
    assert found['std'] < 0.01
    said = diagnose(found, 'embeddings')
    assert said.startswith('collapsed teacher: embeddings of different')
    assert 'mean cosine of 1.0000' in said


def test_dead():
    rows = torch.randn(4, 3)
    rows[2] = 0
    said = diagnose(embedding_statistics(rows), 'features')
    assert said == 'dead teacher: features of some images are all zero'
    rows[1, 0] = math.inf
    found = embedding_statistics(rows)
    assert math.isnan(found['effective_rank'])
    assert 'dead teacher: its features are not finite' in diagnose(
        found, 'features'
    )


@pytest.mark.parametrize('shape', [(1, 3), (3,), (2, 3, 1)])
def test_refused(shape):
    with pytest.raises(ValueError, match='at least 2 images'):
        embedding_statistics(torch.ones(shape))
