"""Hooks and optimizers that the ecosystem lacks."""

from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
