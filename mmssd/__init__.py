"""Self-supervised distillation of small vision networks for OpenMMLab.

Importing the package registers everything into mmpretrain's registries;
from a config: ``custom_imports = dict(imports=['mmssd'])``.
"""

from . import datasets, engine, evaluation, models, visualization  # noqa: F401
from .models.utils.checkpoint import install_safe_loader
from .version import __version__

install_safe_loader()

__all__ = ['__version__']
