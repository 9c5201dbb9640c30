"""How far the training has come."""

from mmengine.logging import MessageHub


def training_progress() -> float | None:
    """Completed fraction of the running training in [0, 1].

    Read from the counters that mmengine's ``RuntimeInfoHook`` keeps while
    a runner trains.

    Returns:
        ``iteration / max_iterations``; ``None`` outside a training loop.
    """
    hub = MessageHub.get_current_instance()
    if hub.get_info('loop_stage') != 'train':
        return None
    iteration, total = hub.get_info('iter'), hub.get_info('max_iters')
    if iteration is None or not total:
        return None
    return min(iteration / total, 1.0)
