import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mmssd.apis.demo import METHODS
from mmssd.apis.demo_visual_priors import METHODS as VISUAL_PRIORS

ROOT = Path(__file__).resolve().parents[1]
SETUP = ROOT / 'tools' / 'dev' / 'setup_env.sh'
FILES = sorted((ROOT / 'requirements').glob('*.txt'))


def read(path):
    lines = (line.strip() for line in path.read_text().splitlines())
    return [
        Requirement(line)
        for line in lines
        if line and not line.startswith(('#', '-r '))
    ]


def run(command, **environment):
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **{k: str(v) for k, v in environment.items()}},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def metadata(monkeypatch):
    """What setup.py hands to setuptools."""
    found = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **kw: found.update(kw))
    runpy.run_path(str(ROOT / 'setup.py'))
    return found


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_requirements_are_pinned(path):
    requirements = read(path)
    assert requirements
    for requirement in requirements:
        (specifier,) = requirement.specifier
        assert specifier.operator == '==', requirement
        assert '*' not in specifier.version, requirement


def test_requirements_are_complete_and_named_once():
    text = (ROOT / 'requirements.txt').read_text()
    included = re.findall(r'^-r (\S+)$', text, re.MULTILINE)
    assert sorted(included) == [f'requirements/{p.name}' for p in FILES]
    names = [r.name.lower() for path in FILES for r in read(path)]
    assert len(names) == len(set(names))


def test_build_requirements_suit_mmcv_and_torch():
    build = {
        r.name: r.specifier for r in read(ROOT / 'requirements/build.txt')
    }
    (setuptools_pin,) = build['setuptools']
    assert setuptools_pin.version in SpecifierSet('>=80,<82')
    assert str(build['torch']) == '==2.11.0'
    assert str(build['torchvision']) == '==0.26.0'


def test_metadata(metadata):
    version = runpy.run_path(str(ROOT / 'mmssd' / 'version.py'))
    assert metadata['name'] == 'mmssd'
    assert metadata['version'] == version['__version__']
    supported = SpecifierSet(metadata['python_requires'])
    for minor in range(9, 16):
        assert (f'3.{minor}.0' in supported) == (11 <= minor <= 13)
    packages = metadata['packages']
    assert {'mmssd', 'mmssd.models', 'mmssd.engine'} <= set(packages)
    assert not any(name.startswith('tests') for name in packages)


def test_install_leaves_torch_and_openmmlab_alone(metadata):
    requirements = [Requirement(r) for r in metadata['install_requires']]
    names = {r.name.lower() for r in requirements}
    openmmlab = {'mmcv', 'mmengine', 'mmpretrain', 'mmdet', 'mmsegmentation'}
    assert not any(name.startswith('onedl') for name in names)
    assert not names & openmmlab
    for requirement in requirements:
        if requirement.name.startswith('torch'):
            assert not requirement.specifier


def test_extras(metadata):
    extras = metadata['extras_require']
    openmmlab = {Requirement(r).name for r in extras['openmmlab']}
    tests = {Requirement(r).name for r in extras['tests']}
    assert {'onedl-mmcv', 'onedl-mmpretrain'} <= openmmlab
    assert {'pytest', 'ruff'} <= tests
    assert {Requirement(r).name for r in extras['all']} >= openmmlab | tests


def test_extras_are_told_of(metadata):
    text = (ROOT / 'docs/install.md').read_text()
    listed = re.findall(r'^\| `([\w-]+)` \| ', text, re.MULTILINE)
    for extra in metadata['extras_require']:
        assert extra in listed, extra
    pinned = {r.name for path in FILES for r in read(path)}
    for requirement in metadata['extras_require']['all']:
        assert Requirement(requirement).name in pinned


def test_what_tests_are_skipped_without_is_installed():
    """A test that the set-up always skips shows nothing."""
    modules = {
        name
        for path in (ROOT / 'tests').rglob('*.py')
        for name in re.findall(
            r"importorskip\(\s*'(\w+)", path.read_text(encoding='utf-8')
        )
    }
    assert 'pytorch_grad_cam' in modules
    pins = {r.name: r.specifier for path in FILES for r in read(path)}
    brought = {
        Requirement(text).name
        for name in pins
        for text in requires(name) or []
        if 'extra ==' not in text
    }
    known = packages_distributions()
    for module in modules:
        assert set(known[module]) & {*pins, *brought}, module
    # what it brings along is pinned, too, where flavours could clash
    for requirement in map(Requirement, requires('grad-cam')):
        if 'opencv' in requirement.name:
            (pin,) = pins[requirement.name]
            assert pin.version in requirement.specifier


def test_make_help_lists_every_target():
    done = run(['make', '--no-print-directory', 'help'])
    assert done.returncode == 0, done.stderr
    for target in 'setup demo test slow lint format clean help'.split():
        assert re.search(rf'\b{target}\s+\S+', done.stdout), target


def test_make_help_lists_the_methods_of_the_demo():
    done = run(['make', '--no-print-directory', 'help'])
    listed = re.search(r'METHOD is\n +one of (.*)', done.stdout).group(1)
    assert listed.split(', ') == [*METHODS, *VISUAL_PRIORS]


def test_an_environment_is_a_path_without_blanks():
    for name in ('my venv', ''):
        done = run(['make', '--no-print-directory', 'help', f'VENV={name}'])
        assert done.returncode != 0
        assert f"VENV='{name}' must be one path without blanks" in done.stderr


@pytest.fixture
def check_env():
    return runpy.run_path(str(ROOT / 'tools' / 'dev' / 'check_env.py'))


def test_packages_that_were_removed_are_missed(
    check_env, tmp_path, monkeypatch
):
    (tmp_path / 'a.txt').write_text('# text\npytest==1\nno-such.thing==2\n')
    (tmp_path / 'b.txt').write_text('nor_this==3\npackaging==4\n')
    find = check_env['find_missing']
    monkeypatch.setitem(find.__globals__, 'REQUIREMENTS', tmp_path)
    assert find() == ['no-such.thing', 'nor_this']


def test_a_stamped_environment_is_looked_at(tmp_path):
    """Ready is what bears the stamp and has its packages."""
    bin_folder = tmp_path / 'venv' / 'bin'
    bin_folder.mkdir(parents=True)
    python = bin_folder / 'python'
    text = SETUP.read_text()
    functions = text[: text.index('\nmain\n')].replace(
        'cd "$(dirname "${BASH_SOURCE[0]}")/../.."', f'cd "{ROOT}"'
    )
    script = tmp_path / 'script.sh'
    script.write_text(
        functions + '\nfingerprint >"$STAMP"\n'
        'if is_ready; then echo ready; else echo not yet; fi\n'
    )

    def ask(exit_status):
        python.write_text(
            f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\nexit {exit_status}\n'
        )
        python.chmod(0o755)
        done = run(['bash', script], VENV=tmp_path / 'venv')
        return done.stdout.strip()

    assert ask(0) == 'ready'
    assert ask(1) == 'not yet'
    asked = (tmp_path / 'asked').read_text().split('\n')
    assert asked[0] == 'tools/dev/check_env.py packages'


def test_minutes_of_the_set_up_are_told_alike():
    said = re.compile(r'about (\d+) minutes (?:on 2 cores, )?once')
    found = [
        said.search(path.read_text()).group(1)
        for path in (ROOT / 'README.md', SETUP)
    ]
    assert found[0] == found[1]


def test_configs_name_the_library_that_they_need():
    for path in (ROOT / 'configs').rglob('*.py'):
        text = path.read_text()
        if 'TIMMBackbone' in text:
            assert 'pip install timm' in text, path


def test_ci_is_executable():
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)


def test_setup_names_a_python_that_does_not_run(tmp_path):
    missing = tmp_path / 'no-python'
    done = run(['bash', SETUP], PYTHON=missing, VENV=tmp_path / 'venv')
    assert done.returncode != 0
    assert str(missing) in done.stderr
    assert '3.11' in done.stderr
    assert not (tmp_path / 'venv').exists()


def test_setup_refuses_an_old_python(tmp_path):
    old = tmp_path / 'python3'
    old.write_text(
        '#!/bin/sh\n'
        'case "$*" in\n'
        '  *version_info*) exit 1 ;;\n'
        '  --version) echo Python 3.9.2 ;;\n'
        'esac\n'
    )
    old.chmod(0o755)
    done = run(['bash', SETUP], PYTHON=old, VENV=tmp_path / 'venv')
    assert done.returncode != 0
    assert '3.9.2' in done.stderr
    assert not (tmp_path / 'venv').exists()


def test_setup_names_the_package_of_a_missing_compiler(tmp_path):
    done = run(
        ['bash', SETUP],
        PYTHON=getattr(sys, '_base_executable', sys.executable),
        CXX=tmp_path / 'no-compiler',
        VENV=tmp_path / 'venv',
    )
    assert done.returncode != 0
    assert 'build-essential' in done.stderr
    assert not (tmp_path / 'venv').exists()


@pytest.mark.slow
def test_wheel_ships_configs_and_tools(tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    for name in ('mmssd', 'configs', 'tools', 'requirements'):
        shutil.copytree(
            ROOT / name,
            source / name,
            ignore=shutil.ignore_patterns('.mim', '__pycache__'),
        )
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, source)
    command = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps']
    command += ['--no-build-isolation', '-w', tmp_path, source]
    done = run(command)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob('mmssd-*.whl')
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ('configs', 'tools'):
        here = {
            f'mmssd/.mim/{path.relative_to(ROOT)}'
            for path in (ROOT / folder).rglob('*.py')
            if '__pycache__' not in path.parts
        }
        assert here <= names
    assert 'mmssd/.mim/tools/dev/setup_env.sh' in names
    assert not any(name.startswith('tests/') for name in names)
