import pytest

from mmssd.models.utils.plan import Duration, SetupError, TrainingPlan

PLAN = TrainingPlan(batch=8, max_iters=100, epoch_length=12)


def test_iterations_are_taken_as_they_are():
    duration = Duration(7, 'queue_start')
    assert duration.iterations == 7
    duration.resolve(PLAN)
    assert duration.iterations == 7


@pytest.mark.parametrize(('epochs', 'expected'), [(2, 24), (0.25, 3), (0, 0)])
def test_epochs_need_a_plan(epochs, expected):
    duration = Duration(dict(epochs=epochs), 'queue_start')
    with pytest.raises(SetupError, match='queue_start=.*HealthHook'):
        duration.iterations  # noqa: B018
    duration.resolve(PLAN)
    assert duration.iterations == expected


@pytest.mark.parametrize(
    'value', [-1, 1.5, '3', True, None, dict(epochs=-1), dict(iters=3)]
)
def test_bad_values(value):
    with pytest.raises(ValueError, match='queue_start=.*iterations >= 0'):
        Duration(value, 'queue_start')
