"""Processes of a study: how many run at a time, what is said of one that fails, and that none outlives it."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from castkd.apis import seed_runs
from castkd.apis.seed_runs import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    WAITING,
    SeedRun,
    run_seeds,
    thread_environment,
)
from castkd.engine.recipe import Recipe
from castkd.errors import DataError

# A stand-in for a training: starts a helper, sleeps, says something and ends.
SCRIPT = """
import json, os, pathlib, signal, subprocess, sys, time

folder, seconds, status, stubborn = pathlib.Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == '1'
if stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen(['sleep', '100'])
mark = folder / 'started.partial'
mark.write_text(json.dumps({'time': time.time(), 'pids': [os.getpid(), helper.pid]}))
mark.rename(folder / 'started.json')
time.sleep(seconds)
print('Traceback (most recent call last):')
print('error: no data', file=sys.stderr)
print('Exception ignored', file=sys.stderr)
helper.kill()
helper.wait()
(folder / 'ended.json').write_text(json.dumps(time.time()))
sys.exit(status) if status >= 0 else os.kill(os.getpid(), -status)
"""


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Look often and be impatient."""
    monkeypatch.setattr(seed_runs, '_POLL_SECONDS', 0.02)
    monkeypatch.setattr(seed_runs, '_PATIENCE_SECONDS', 1.0)


def run_of(tmp_path, seed, seconds=0.0, status=0, stubborn=False):
    folder = tmp_path / f'seed{seed}'
    words = [sys.executable, '-c', SCRIPT, folder, seconds, status, int(stubborn)]
    recipe = Recipe(tmp_path / 'r.py', folder, [])
    return SeedRun(seed, recipe, [str(word) for word in words])


def times(tmp_path, seed):
    folder = tmp_path / f'seed{seed}'
    started = json.loads((folder / 'started.json').read_text())['time']
    return started, json.loads((folder / 'ended.json').read_text())


def test_at_most_so_many_run_at_a_time_in_order(tmp_path):
    runs = [run_of(tmp_path, seed, 0.4) for seed in range(4)]
    run_seeds(runs, 2, os.environ, lambda: None)
    assert [run.state for run in runs] == [FINISHED] * 4
    spans = [times(tmp_path, seed) for seed in range(4)]
    together = [sum(start <= other_start < end for start, end in spans) for other_start, _ in spans]
    assert max(together) == 2
    # The third starts when one of the first two has ended.
    assert spans[2][0] > min(spans[0][1], spans[1][1])


def test_one_that_fails_does_not_stop_the_others_and_says_why(tmp_path):
    runs = [run_of(tmp_path, 0, status=2), run_of(tmp_path, 1, status=-9), run_of(tmp_path, 2)]
    run_seeds(runs, 1, os.environ, lambda: None)
    assert [run.state for run in runs] == [FAILED, FAILED, FINISHED]
    assert runs[0].reason == 'exit status 2: error: no data'
    assert runs[1].reason == 'killed by SIGKILL: error: no data'
    assert 'Exception ignored' in runs[0].log.read_text()


def test_the_log_grows_and_only_the_new_part_is_the_reason(tmp_path):
    run = run_of(tmp_path, 0, status=1)
    run.log.parent.mkdir()
    run.log.write_text('error: of long ago\n')
    run.command = [sys.executable, '-c', 'import sys; print("last words"); sys.exit(1)']
    run_seeds([run], 1, os.environ, lambda: None)
    assert run.reason == 'exit status 1: last words'
    assert run.log.read_text() == 'error: of long ago\nlast words\n'


def alive(pid):
    state = Path(f'/proc/{pid}/stat')
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return state.read_text().rsplit(')', 1)[1].split()[0] not in 'ZX'
    return False


def assert_ends(pid, seconds=20.0):
    """Fail unless the process, which sleeps for much longer, ends soon: a signal is sent, not yet received."""
    deadline = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < deadline, f'process {pid} lives on'
        time.sleep(0.01)


@pytest.mark.skipif(not Path('/proc').is_dir(), reason='looks for processes in /proc')
@pytest.mark.parametrize('stubborn', [False, True])
def test_an_interruption_ends_the_processes_and_those_they_started(tmp_path, stubborn):
    runs = [run_of(tmp_path, seed, 100, stubborn=stubborn) for seed in range(3)]
    marks = [tmp_path / f'seed{seed}' / 'started.json' for seed in range(2)]

    def interrupt():
        if all(mark.exists() for mark in marks):
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_seeds(runs, 2, os.environ, interrupt)
    assert time.monotonic() - begun < 60
    for mark in marks:
        for pid in json.loads(mark.read_text())['pids']:
            assert_ends(pid)
    assert [run.state for run in runs] == [INTERRUPTED, INTERRUPTED, WAITING]
    assert runs[0].log.read_text() == 'ended with the study; go on with --resume\n'
    # The third was never started.
    assert not (tmp_path / 'seed2').exists()


def test_an_ended_run_frees_its_folder_when_the_last_of_its_processes_is_gone(tmp_path):
    """One that outlives the rest for a moment holds the log, and the next start would find the folder taken."""
    run = run_of(tmp_path, 0)
    late = (
        'import pathlib, subprocess, sys, time\n'
        "subprocess.Popen(['sleep', '0.5'], start_new_session=True)\n"
        'pathlib.Path(sys.argv[1]).touch()\n'
        'time.sleep(100)'
    )
    run.command = [sys.executable, '-c', late, str(tmp_path / 'ready')]

    def end_it():
        if (tmp_path / 'ready').exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_seeds([run], 1, os.environ, end_it)
    again = run_of(tmp_path, 0)
    run_seeds([again], 1, os.environ, lambda: None)
    assert again.state == FINISHED, again.reason


def test_a_folder_in_which_a_process_works_is_left_alone(tmp_path):
    first, second = run_of(tmp_path, 0, 100), run_of(tmp_path, 0, 0)
    mark = tmp_path / 'seed0' / 'started.json'

    def try_again():
        if mark.exists():
            second.start(os.environ)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_seeds([first], 1, os.environ, try_again)
    assert second.state == FAILED
    assert second.reason.startswith('another process trains in this folder')
    # Ended, it frees the folder.
    again = run_of(tmp_path, 0)
    run_seeds([again], 1, os.environ, lambda: None)
    assert again.state == FINISHED


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / 'seed0').touch()
    with pytest.raises(DataError, match=r'seed 0: cannot start with log .*use another --work-dir'):
        run_seeds([run_of(tmp_path, 0)], 1, os.environ, lambda: None)


def test_cores_are_divided_unless_someone_did(monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)), raising=False)
    assert 'OMP_NUM_THREADS' not in thread_environment(1)
    assert thread_environment(3)['OMP_NUM_THREADS'] == '2'
    assert thread_environment(9)['OMP_NUM_THREADS'] == '1'
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert thread_environment(3)['OMP_NUM_THREADS'] == '5'


def test_the_environment_reaches_the_process(tmp_path):
    run = run_of(tmp_path, 0)
    run.command = [sys.executable, '-c', "import os; print(os.environ['OMP_NUM_THREADS'])"]
    run_seeds([run], 1, {**os.environ, 'OMP_NUM_THREADS': '7'}, lambda: None)
    assert run.log.read_text() == '7\n'
    assert subprocess.run(run.command, env={}, capture_output=True, check=False).returncode == 1
