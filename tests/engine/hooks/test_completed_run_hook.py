"""What is validated when a run is resumed after its last iteration."""

from types import SimpleNamespace

import pytest

from mmssd.engine.hooks import CompletedRunHook


@pytest.mark.parametrize(
    ('trained', 'validates', 'runs'),
    [(0, True, 1), (3, True, 0), (0, False, 0)],
)
def test_validates_only_what_had_nothing_to_train(trained, validates, runs):
    calls = []
    loop = SimpleNamespace(run=lambda: calls.append('val'))
    runner = SimpleNamespace(iter=7, val_loop=loop if validates else None)
    hook = CompletedRunHook()
    hook.before_train(runner)
    runner.iter += trained
    hook.after_train(runner)
    assert len(calls) == runs
