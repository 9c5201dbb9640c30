import pytest
import torch

from mmssd.models.utils.step import (
    Encodings,
    Needs,
    Step,
    last_output,
    merge_needs,
    pool_features,
)


def test_pooling_of_maps_vectors_and_tuples():
    stage = torch.arange(24.0).view(1, 2, 3, 4)
    # mean of 0 ... 11 and of 12 ... 23
    expected = torch.tensor([[5.5, 17.5]])
    torch.testing.assert_close(pool_features(stage), expected)
    torch.testing.assert_close(
        pool_features((torch.zeros(1, 9, 6, 8), stage)), expected
    )
    vector = torch.randn(3, 5)
    assert pool_features(vector) is vector
    assert pool_features([stage, vector]) is vector
    assert last_output(((stage,), (stage, vector))) is vector


def test_pooling_errors():
    with pytest.raises(ValueError, match=r'\(2, 5, 7\).*out_type="cls_token"'):
        pool_features(torch.zeros(2, 5, 7))
    with pytest.raises(ValueError, match='empty tuple'):
        pool_features(())
    with pytest.raises(TypeError, match='got dict'):
        pool_features(({'x': 1},))


def test_needs_know_their_names():
    needs = Needs(student={'embeddings'}, teacher=['features'])
    assert needs.student == frozenset({'embeddings'})
    assert needs.teacher == frozenset({'features'})
    assert needs.momentum == frozenset()
    assert needs.student_views == 'all'
    with pytest.raises(ValueError, match=r"teacher.*\['embedding'\]"):
        Needs(teacher={'embedding'})
    with pytest.raises(ValueError, match="momentum_views='local'"):
        Needs(momentum_views='local')


def test_union_of_needs():
    merged = merge_needs(
        [
            Needs(student={'embeddings'}, min_global=2),
            Needs(
                student={'features'},
                teacher={'embeddings'},
                teacher_views='global',
            ),
        ]
    )
    assert merged.student == {'embeddings', 'features'}
    assert merged.teacher == {'embeddings'}
    # a head that does not read the teacher has no say in its views
    assert merged.teacher_views == 'global'
    assert merged.momentum == frozenset()
    assert merged.min_global == 2
    both = merge_needs(
        [merged, Needs(teacher={'logits'}, teacher_views='all')]
    )
    assert both.teacher == {'embeddings', 'logits'}
    assert both.teacher_views == 'all'


def test_encodings_do_not_share_lists():
    first, second = Encodings(), Encodings()
    first.features.append(torch.zeros(1))
    assert not second.features
    step = Step(student=first)
    assert step.teacher is None and step.progress is None
