"""The installation: dependency check, environment script, package metadata and the CI command."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import castkd
from castkd.dependencies import check_dependencies

ROOT = Path(__file__).parents[1]

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
sys.path.insert(0, {root!r})
try:
    import castkd
except ImportError as error:
    print(error)
"""


def import_error(*blocked, path=''):
    """Return what a fresh interpreter says on ``import castkd``."""
    code = BLOCK.format(blocked=blocked, root=str(ROOT))
    run = subprocess.run(
        [sys.executable, '-c', code],
        env={**os.environ, 'PYTHONPATH': str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def fake_package(folder, name, version):
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text('raise RuntimeError("imported")')
    (folder / name / 'version.py').write_text(f'__version__ = {version!r}\n')


def test_the_installed_packages_pass():
    check_dependencies()


@pytest.mark.parametrize('name', ['mmengine', 'mmcv', 'mmdet'])
def test_a_missing_package_is_one_line(name):
    line = import_error(name)
    assert line.startswith(f'castkd: {name} is not installed. ')
    assert "pip install -e '.[mm]'" in line
    assert '\n' not in line


def test_old_packages_are_one_line(tmp_path):
    fake_package(tmp_path, 'mmengine', '0.10.7')
    fake_package(tmp_path, 'mmcv', '2.1.0')
    line = import_error(path=tmp_path)
    assert 'mmengine 0.10.7 is too old (needed: 0.10.12); mmcv 2.1.0 is too old' in line
    assert 'mmdet' not in line
    assert '\n' not in line


def test_mmcv_without_operators_is_one_line(tmp_path):
    fake_package(tmp_path, 'mmcv', '2.3.6')
    assert 'mmcv is installed without its compiled operators' in import_error(path=tmp_path)


def test_registries_find_parts_by_name():
    from mmengine.registry import MODELS

    assert MODELS.get('castkd.Distiller').__module__ == 'castkd.distiller.distiller'


def metadata(*arguments):
    run = subprocess.run(
        [sys.executable, 'setup.py', '--quiet', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.split()


def test_setup_needs_no_castkd_dependency_and_knows_the_version():
    assert metadata('--name', '--version') == ['castkd', castkd.__version__]


def test_requirements_are_pinned():
    for path in (ROOT / 'requirements').glob('*.txt'):
        lines = [line for line in path.read_text().splitlines() if not line.startswith('#')]
        assert lines
        assert all(line.count('==') == 1 for line in lines), path.name


# --- the environment script, with stand-ins for Python, pip and the compiler --------------------

# Answers like an interpreter whose pip writes down what it was asked.
STUB_PYTHON = """#!/bin/bash
here=$(cd "$(dirname "$0")" && pwd)
case "$*" in
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && exit ;;
  "-m ensurepip") exit ;;
  "-c "*) echo 3.8.10; exit ;;
  "-m pip "*)
    echo "FORCE_CUDA=${FORCE_CUDA:-} CXX=${CXX:-} ${*#-m pip }" >>"$LOG"
    if [[ -n "${FAIL_AT:-}" && "$*" == *"$FAIL_AT"* ]]; then exit 1; fi
    exit ;;
esac
script=$(cat)
case "$script" in
  *ensurepip*) [[ -z "${OLD_PYTHON:-}" ]] ;;
  *CUDA_HOME*) echo "${TARGET:-cpu}" ;;
  *nms*) [[ -z "${STALE_WHEEL:-}" || -f "$LOG.fresh" ]] || { touch "$LOG.fresh"; exit 1; } ;;
esac
"""
TOOLS = ('bash', 'cat', 'cksum', 'cp', 'dirname', 'getconf', 'grep', 'mkdir', 'rm', 'touch')


class Machine:
    """A bare machine: a few Unix tools, a stand-in Python and usually a compiler."""

    def __init__(self, folder, compiler=True, python=True):
        self.project = folder / 'project'
        self.log = folder / 'log'
        self.bin = folder / 'bin'
        (self.project / 'tools').mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / 'tools' / 'setup_env.sh', self.project / 'tools')
        shutil.copy(ROOT / 'setup.py', self.project)
        shutil.copytree(ROOT / 'requirements', self.project / 'requirements')
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        if python:
            self.add('python3.11', STUB_PYTHON)
        if compiler:
            self.add('g++', '#!/bin/bash\ncat >/dev/null\n')

    def add(self, name, text):
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def setup(self, **environment):
        self.log.write_text('')
        return subprocess.run(
            ['bash', 'tools/setup_env.sh'],
            cwd=self.project,
            env={'PATH': str(self.bin), 'LOG': str(self.log), **environment},
            capture_output=True,
            text=True,
        )

    def asked(self):
        """Return what pip was asked for in the last run: the last word of each call."""
        return [line.split()[-1] for line in self.log.read_text().splitlines()]

    def refused(self, run):
        """Return the one line of a refusal that left nothing behind."""
        assert run.returncode == 2
        assert not (self.project / '.venv').exists()
        (line,) = run.stderr.splitlines()
        assert line.startswith('castkd: needs ')
        return line


MMCV = 'onedl-mmcv==2.3.6'
ALL = [
    'requirements/torch.txt',
    'requirements/build.txt',
    MMCV,
    '-rrequirements/dev.txt',
    'opencv-python-headless==4.12.0.88',
    '.',
]


def test_missing_compiler_is_one_line(tmp_path):
    machine = Machine(tmp_path, compiler=False)
    assert 'C++17 compiler' in machine.refused(machine.setup())


def test_compiler_that_does_not_work_is_one_line(tmp_path):
    machine = Machine(tmp_path)
    machine.add('broken', '#!/bin/bash\nexit 1\n')
    assert 'none of these works: broken' in machine.refused(machine.setup(CXX='broken'))


def test_missing_python_is_one_line(tmp_path):
    machine = Machine(tmp_path, python=False)
    assert 'Python 3.10, 3.11 or 3.12' in machine.refused(machine.setup())


def test_old_python_is_one_line_that_names_it(tmp_path):
    machine = Machine(tmp_path)
    assert 'found python3.11 (3.8.10)' in machine.refused(machine.setup(OLD_PYTHON='1'))


def test_steps_run_once_and_in_order(tmp_path):
    machine = Machine(tmp_path)
    first = machine.setup()
    assert first.returncode == 0, first.stderr
    assert machine.asked() == ALL
    assert '10 to 20 minutes' in first.stderr
    second = machine.setup()
    assert (second.returncode, second.stderr, machine.asked()) == (0, '', [])


def test_an_interrupted_installation_goes_on_where_it_stopped(tmp_path):
    machine = Machine(tmp_path)
    assert machine.setup(FAIL_AT='dev.txt').returncode != 0
    assert machine.setup().returncode == 0
    assert machine.asked() == ALL[3:]


def test_a_changed_pin_repeats_its_step_and_the_later_ones(tmp_path):
    machine = Machine(tmp_path)
    machine.setup()
    with (machine.project / 'requirements' / 'dev.txt').open('a') as file:
        file.write('another==1.0\n')
    machine.setup()
    assert machine.asked() == ALL[3:]
    (machine.project / 'requirements' / 'torch.txt').write_text('torch==2.14.0\n')
    machine.setup()
    assert machine.asked() == ALL


def test_another_index_replaces_torch_and_is_remembered(tmp_path):
    machine = Machine(tmp_path)
    machine.setup()
    machine.setup(TORCH_INDEX='file:///index', TARGET='cuda')
    lines = machine.log.read_text().splitlines()
    assert '--force-reinstall --index-url file:///index' in lines[0]
    assert lines[2].startswith('FORCE_CUDA=1 CXX=g++ ')
    machine.setup()
    assert machine.asked() == []


def test_operators_of_another_torch_build_are_compiled_afresh(tmp_path):
    machine = Machine(tmp_path)
    run = machine.setup(STALE_WHEEL='1')
    assert run.returncode == 0, run.stderr
    lines = [line for line in machine.log.read_text().splitlines() if line.endswith(MMCV)]
    assert len(lines) == 2
    assert '--no-cache-dir --force-reinstall --no-deps' in lines[1]


def test_unknown_extra_is_refused(tmp_path):
    run = Machine(tmp_path).setup(EXTRAS='mm nothing')
    assert run.returncode == 2
    assert run.stderr == (
        'castkd: EXTRAS names nothing, but requirements/nothing.txt does not exist\n'
    )


def test_ci_calls_the_test_command():
    assert os.access(ROOT / '.ci' / 'run', os.X_OK)
    assert 'make test' in (ROOT / '.ci' / 'run').read_text()
