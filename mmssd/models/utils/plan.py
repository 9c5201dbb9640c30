"""What a run is going to do, for checks before it starts."""

from dataclasses import dataclass


class SetupError(ValueError):
    """A config that cannot work, found before or in the first step."""


@dataclass(frozen=True)
class TrainingPlan:
    """Numbers of a training that networks and heads check themselves by.

    Attributes:
        batch: images of a step over all processes.
        max_iters: iterations of the whole training.
        epoch_length: iterations of an epoch.
        num_views: views of an image; ``None`` if it cannot be told.
        accumulation: steps whose gradients are added up.
        dataset: of the training, as the loader has it.
    """

    batch: int
    max_iters: int
    epoch_length: int
    num_views: int | None = None
    accumulation: int = 1
    dataset: object = None


class Duration:
    """A number of iterations, given as such or in epochs.

    Args:
        value (int | dict): iterations >= 0, or ``dict(epochs=n)``.
        name (str): of the argument, for messages.

    Raises:
        ValueError: for anything else.
    """

    def __init__(self, value: int | dict, name: str) -> None:
        self.name = name
        self.value = value
        epochs = None
        if isinstance(value, dict) and list(value) == ['epochs']:
            epochs = value['epochs']
        number = value if epochs is None else epochs
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not (whole or (epochs is not None and isinstance(number, float))):
            number = -1
        if not 0 <= number < float('inf'):
            raise ValueError(
                f'{name}={value!r}: must be a number of iterations >= 0, or '
                'dict(epochs=n)'
            )
        self.epochs = epochs
        self._iterations = value if epochs is None else None

    def resolve(self, plan: TrainingPlan) -> None:
        """Turn epochs into iterations."""
        if self.epochs is not None:
            self._iterations = round(self.epochs * plan.epoch_length)

    @property
    def iterations(self) -> int:
        """Number of iterations.

        Raises:
            SetupError: if it is in epochs and nobody said how long one is.
        """
        if self._iterations is None:
            raise SetupError(
                f'{self.name}={self.value!r}: how long an epoch is, is known '
                'in a run with HealthHook only (tools/train.py adds it): add '
                "custom_hooks=[dict(type='HealthHook')], or give iterations"
            )
        return self._iterations
