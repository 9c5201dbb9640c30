import pytest
import torch

from mmssd.models.utils.step import (
    Encodings,
    Needs,
    Step,
    last_output,
    merge_needs,
    pool_features,
    view_indices,
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


def test_views_by_index():
    needs = Needs(momentum={'embeddings'}, momentum_views=[1], min_global=2)
    assert needs.momentum_views == (1,)
    for views in ((), (2,), (-1,)):
        with pytest.raises(ValueError, match=r'momentum_views=.*min_global=2'):
            Needs(momentum_views=views, min_global=2)
    other = Needs(
        student={'embeddings'},
        momentum={'features'},
        student_views=(0,),
        momentum_views=(0,),
    )
    merged = merge_needs([needs, other])
    assert merged.momentum_views == (0, 1)
    assert merged.student_views == (0,)
    both = merge_needs(
        [merged, Needs(momentum={'logits'}, momentum_views='global')]
    )
    assert both.momentum_views == 'global'
    assert view_indices((0, 2), 5, 3) == [0, 2]
    assert view_indices('global', 5, 3) == [0, 1, 2]
    assert view_indices('all', 5, 3) == [0, 1, 2, 3, 4]


def test_encodings_at_the_places_of_their_views():
    a, b, c = (torch.full((1,), float(x)) for x in range(3))
    given = Encodings(embeddings=[a, b], feature_maps=[(a, b), (b, c)])
    placed = given.placed([1, 3])
    assert placed.embeddings == [None, a, None, b]
    assert placed.feature_maps == [None, (a, b), None, (b, c)]
    assert placed.features == []
    doubled = given.apply(lambda x: 2 * x)
    assert doubled.embeddings == [0, 2]
    assert doubled.feature_maps == [(0, 2), (2, 4)]


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
