import pytest
from mmengine.logging import MessageHub

from mmssd.models.utils.progress import training_progress


@pytest.fixture
def hub():
    hub = MessageHub.get_current_instance()
    kept = {
        name: hub.get_info(name)
        for name in ('loop_stage', 'iter', 'max_iters')
    }
    yield hub
    for name, value in kept.items():
        hub.update_info(name, value)


def test_unknown_outside_a_training(hub):
    hub.update_info('loop_stage', None)
    assert training_progress() is None
    hub.update_info('iter', 5)
    hub.update_info('max_iters', 10)
    hub.update_info('loop_stage', 'val')
    assert training_progress() is None


@pytest.mark.parametrize(
    ('iteration', 'fraction'), [(0, 0.0), (5, 0.5), (10, 1.0), (11, 1.0)]
)
def test_fraction_of_iterations(hub, iteration, fraction):
    hub.update_info('loop_stage', 'train')
    hub.update_info('iter', iteration)
    hub.update_info('max_iters', 10)
    assert training_progress() == fraction


def test_no_length_known(hub):
    hub.update_info('loop_stage', 'train')
    hub.update_info('iter', 3)
    hub.update_info('max_iters', None)
    assert training_progress() is None
