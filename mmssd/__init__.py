"""Self-supervised distillation of small vision networks for OpenMMLab.

Importing the package registers everything into mmpretrain's registries;
from a config: ``custom_imports = dict(imports=['mmssd'])``.
"""

from . import models  # noqa: F401
