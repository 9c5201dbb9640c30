"""Hooks, optimizers and schedules that the ecosystem lacks."""

from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .schedulers import *  # noqa: F403
