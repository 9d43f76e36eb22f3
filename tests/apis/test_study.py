"""Studies of a recipe whose network has one weight."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from castkd.apis import seed_runs, study, train
from castkd.errors import ConfigError, DataError, TrainingError
from tests.engine.toy_project import CONFIG, RECIPE, write_project

ROOT = Path(__file__).parents[2]
REPORT = """
report = dict(
    rows=[dict(stage='first', label='start'), dict(stage='second', label='end')],
    curves=['loss'],
    pictures=dict(num=0),
)
"""
NEVER = [sys.executable, '-c', 'import sys; sys.exit("must not run")']
# Says how it was called, and fails for seed 1.
FAKE = [
    sys.executable,
    '-c',
    'import sys; print(sys.argv[1:]); sys.exit("error: out of luck" if sys.argv[-1] == "seed=1" else 0)',
]


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(seed_runs, '_POLL_SECONDS', 0.02)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A recipe and a work directory in which seeds 0 and 1 are finished, of seed 2 the first stage."""
    folder = tmp_path_factory.mktemp('study')
    path = write_project(folder, RECIPE + REPORT)
    for seed in range(3):
        train(
            path,
            work_dir=folder / 'w' / f'seed{seed}',
            cfg_options={'seed': seed},
            stage='first' if seed == 2 else None,
        )
    return path, folder / 'w'


def metric(work_dir, seed, stage):
    return json.loads((work_dir / f'seed{seed}' / stage / 'metrics.json').read_text())['toy/mIoU']


def test_finished_seeds_are_collected_and_not_run_again(finished, tmp_path, capsys):
    path, work_dir = finished
    out = tmp_path / 'docs' / 'results.json'
    content = study(path, [0, 1], command=NEVER, work_dir=work_dir, out=out)
    assert json.loads(out.read_text()) == content
    assert json.loads((work_dir / 'study.json').read_text()) == content
    lines = out.read_text().splitlines()
    assert ' "seeds": [0, 1],' in lines
    assert len(lines) < 70
    end = content['rows'][1]
    values = [metric(work_dir, seed, 'second') for seed in (0, 1)]
    assert values[0] != values[1]
    assert end['metrics']['toy/mIoU']['values'] == pytest.approx(values, abs=1e-5)
    assert end['metrics']['toy/mIoU']['mean'] == pytest.approx(sum(values) / 2, abs=1e-5)
    assert end['difference']['values'][0] == pytest.approx(
        values[0] - metric(work_dir, 0, 'first'), abs=1e-5
    )
    text = (work_dir / 'study.md').read_text()
    assert '| end | 8 labeled | 4 |' in text
    assert '(curves.png)' in text
    assert (work_dir / 'curves.png').read_bytes().startswith(b'\x89PNG')
    assert 'mIoU' in capsys.readouterr().out


def test_collecting_takes_the_seeds_that_are_there(finished):
    path, work_dir = finished
    content = study(path, command=NEVER, work_dir=work_dir, collect_only=True)
    assert content['seeds'] == [0, 1, 2]
    assert [row['metrics']['toy/mIoU']['n'] for row in content['rows']] == [3, 2]
    assert '(n=2)' in (work_dir / 'study.md').read_text()


def test_a_stage_can_be_enough(finished):
    path, work_dir = finished
    content = study(path, [2], command=NEVER, work_dir=work_dir, stage=['first'])
    assert [row['metrics'] != {} for row in content['rows']] == [True, False]


def test_a_failing_seed_is_named_and_the_others_go_on(finished, tmp_path):
    path, _ = finished
    words = (
        r"1 of 3 seeds failed: seed 1 \(log '.*seed1/train.log'\): exit status 1: error: out of luck; "
        'mend it and go on with --resume'
    )
    options = ['train_cfg.max_iters=2', 'lr=0.2']
    with pytest.raises(TrainingError, match=words):
        study(
            path,
            command=FAKE,
            work_dir=tmp_path / 'w',
            cfg_options=options,
            stage=['second', 'first'],
            resume=True,
            amp=False,
        )
    said = (tmp_path / 'w' / 'seed2' / 'train.log').read_text().strip()
    given = [str(path), '--work-dir', str(tmp_path / 'w' / 'seed2'), '--resume']
    given += ['--stage', 'second', '--stage', 'first', '--cfg-options', *options, 'seed=2']
    assert said == str(given)


def test_a_table_is_written_although_a_seed_failed(finished, tmp_path):
    path, work_dir = finished
    (work_dir / 'study.md').unlink(missing_ok=True)
    with pytest.raises(TrainingError, match='1 of 2 seeds failed: seed 2'):
        study(path, [0, 2], command=NEVER, work_dir=work_dir)
    assert '(n=1)' in (work_dir / 'study.md').read_text()


def test_a_seed_that_was_broken_off_is_taken_up_only_when_asked(tmp_path, monkeypatch):
    config = CONFIG.replace('interval=2)', 'interval=1)')
    path = write_project(tmp_path, RECIPE + REPORT, config)
    net = sys.modules['tests.engine.toy_project'].ToyNet
    forward = net.forward
    calls = []

    def dies_in_the_second_step(self, inputs, data_samples=None, mode='tensor'):
        calls.append(mode)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return forward(self, inputs, data_samples, mode)

    monkeypatch.setattr(net, 'forward', dies_in_the_second_step)
    with pytest.raises(KeyboardInterrupt):
        train(path, work_dir=tmp_path / 'w' / 'seed0', cfg_options={'seed': 0})
    with pytest.raises(ConfigError, match=r"seed 0: stage 'first' was broken off .*--resume"):
        study(path, [0, 5], command=FAKE, work_dir=tmp_path / 'w')
    assert not (tmp_path / 'w' / 'seed5').exists()
    with pytest.raises(DataError, match='holds no finished row'):
        study(path, [0, 5], command=FAKE, work_dir=tmp_path / 'w', resume=True)
    assert "'--resume'" in (tmp_path / 'w' / 'seed0' / 'train.log').read_text()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'seeds': []}, '--seeds: give at least one'),
        ({'seeds': [1, 1]}, '--seeds: 1 is given twice'),
        ({'seeds': [-1]}, 'seed must be an integer'),
        ({'jobs': 0}, 'jobs must be an integer'),
        ({'cfg_options': ['seed=3']}, 'a study sets the seed itself; use --seeds'),
        ({'cfg_options': ['sedd=3']}, 'no variable, stage or config key'),
        ({'cfg_options': ['lr']}, "'lr' is not key=value"),
        ({'stage': ['frist']}, "did you mean 'first'"),
        ({'cfg_options': ['report.rows.0.stage=x']}, "report.rows.0.stage: no stage 'x'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(tmp_path, options, words):
    path = write_project(tmp_path, RECIPE + REPORT)
    with pytest.raises(ConfigError, match=words):
        study(path, command=NEVER, work_dir=tmp_path / 'w', **options)
    assert not (tmp_path / 'w').exists()


def test_a_recipe_without_a_seed_or_with_one_that_changes_nothing_is_refused(tmp_path):
    write_project(tmp_path, RECIPE.replace("'{seed}'", '1'))
    with pytest.raises(ConfigError, match=r'no stage refers to \{seed\}'):
        study(tmp_path / 'recipe.py', command=NEVER, work_dir=tmp_path / 'w')
    with pytest.raises(ConfigError, match='no recipe with a variable "seed"'):
        study(tmp_path / 'stage.py', command=NEVER, work_dir=tmp_path / 'w')


def test_nothing_to_collect_is_one_line(tmp_path):
    path = write_project(tmp_path, RECIPE)
    with pytest.raises(DataError, match='has no folder seed0, seed1'):
        study(path, command=NEVER, work_dir=tmp_path / 'w', collect_only=True)


def tool(*arguments):
    command = [sys.executable, str(ROOT / 'tools' / 'study.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_help_of_the_tool_needs_no_package():
    code = (
        "import sys; sys.argv = ['study.py', '--help']; sys.path.insert(0, 'tools'); import study\n"
    )
    code += 'try:\n    study.main()\nexcept SystemExit: pass\n'
    code += "print({'torch', 'mmengine', 'numpy', 'castkd'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert '--collect-only' in result.stdout
    assert result.stdout.rstrip().endswith('set()')


@pytest.mark.slow
def test_the_tool_trains_two_seeds_side_by_side(tmp_path):
    config = f"custom_imports = dict(imports=['tests.engine.toy_project'])\n{CONFIG}"
    path = write_project(tmp_path, RECIPE + REPORT, config)
    work_dir = tmp_path / 'w'
    result = tool(path, '--seeds', 0, 1, '--jobs', 2, '--work-dir', work_dir)
    assert result.returncode == 0, result.stderr
    assert 'seed 1: finished' in result.stderr
    content = json.loads((work_dir / 'study.json').read_text())
    assert [row['metrics']['toy/mIoU']['n'] for row in content['rows']] == [2, 2]
    assert 'second: finished' in (work_dir / 'seed1' / 'train.log').read_text()
