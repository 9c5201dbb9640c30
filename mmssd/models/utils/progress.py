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


def begins_update(accumulation: int) -> bool:
    """Whether this step is the first of those whose gradients are added up.

    Args:
        accumulation: steps to an update of the weights.

    Returns:
        True for every step without accumulation, or outside a runner.
    """
    if accumulation == 1:
        return True
    iteration = MessageHub.get_current_instance().get_info('iter')
    return iteration is None or iteration % accumulation == 0


def ends_update(accumulation: int) -> bool:
    """Whether this step is the last of those whose gradients are added up.

    Args:
        accumulation: steps to an update of the weights.

    Returns:
        True for every step without accumulation, or outside a runner; and
        for the last one of a training, which updates in any case.
    """
    if accumulation == 1:
        return True
    hub = MessageHub.get_current_instance()
    iteration, total = hub.get_info('iter'), hub.get_info('max_iters')
    return (
        iteration is None
        or (iteration + 1) % accumulation == 0
        or iteration + 1 == total
    )
