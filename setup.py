"""Package metadata; ``pip install -e .`` leaves an environment as it is.

Neither torch nor OpenMMLab's libraries are required here: an environment
that has them, whoever built them, is never changed. A fresh one gets them
from the pinned files in ``requirements/`` (``make setup``), or as the extra
``openmmlab``.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What OpenMMLab's tools look for in an installed package's ``.mim``
SHIPPED = ('configs', 'tools', 'model-index.yml')


def read_version() -> str:
    """Return the version without importing the package."""
    scope: dict = {}
    exec((ROOT / 'mmssd' / 'version.py').read_text(), scope)
    return scope['__version__']


def read_requirements(name: str) -> list[str]:
    """Return the lines of ``requirements/<name>.txt`` that name packages."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def read_readme() -> str:
    """Return the README, empty where there is none yet."""
    path = ROOT / 'README.md'
    return path.read_text() if path.exists() else ''


class BuildWithMim(build_py):
    """Put configs and tools into the package as ``mmssd/.mim``.

    A wheel gets copies, an editable install links to the working tree.
    """

    def run(self) -> None:
        """Build the modules, then the folder."""
        super().run()
        editable = getattr(self, 'editable_mode', False)
        parent = ROOT if editable else Path(self.build_lib)
        mim = parent / 'mmssd' / '.mim'
        # Left by an earlier build; links are removed, not followed
        if mim.is_dir():
            shutil.rmtree(mim)
        mim.mkdir(parents=True)
        for name in SHIPPED:
            source = ROOT / name
            if not source.exists():
                continue
            if editable:
                (mim / name).symlink_to(Path('..', '..', name))
            elif source.is_dir():
                ignored = shutil.ignore_patterns('__pycache__', '*.py[cod]')
                shutil.copytree(source, mim / name, ignore=ignored)
            else:
                shutil.copy2(source, mim / name)


openmmlab = read_requirements('openmmlab')
tests = read_requirements('tests')
timm = ['timm']
grad_cam = ['grad-cam']

setup(
    name='mmssd',
    version=read_version(),
    description=(
        'Self-supervised distillation of small vision networks for OpenMMLab'
    ),
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='self-supervised learning, knowledge distillation, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmssd', 'mmssd.*']),
    cmdclass={'build_py': BuildWithMim},
    python_requires='>=3.11,<3.14',
    install_requires=[
        'matplotlib',
        'numpy',
        'pillow',
        'pycocotools',
        'scikit-image',
        'scikit-learn',
        'scipy',
    ],
    extras_require={
        'openmmlab': openmmlab,
        'timm': timm,
        'grad-cam': grad_cam,
        'tests': tests,
        'all': [*openmmlab, *timm, *grad_cam, *tests],
    },
    zip_safe=False,
)
