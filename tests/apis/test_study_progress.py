import io
import json

import pytest
from rich.console import Console

from castkd.apis import study_progress
from castkd.apis.seed_runs import FINISHED, RUNNING, WAITING, SeedRun
from castkd.apis.study_progress import (
    Board,
    StageProgress,
    read_progress,
    seconds_left,
    study_seconds_left,
)
from castkd.engine import manifest
from castkd.engine.manifest import DONE, Manifest, StageRecord
from castkd.engine.recipe import PSEUDO_LABEL, TRAIN, Recipe, Stage

STAGES = [
    Stage('adapt', TRAIN, {'train_cfg': {'max_iters': 100}}),
    Stage('label', PSEUDO_LABEL),
    Stage('distill', TRAIN, {'train_cfg': {'max_iters': 200}}),
]


def recipe_of(folder, **states):
    """Return a recipe with a manifest; a finished stage took 50 s."""
    records = {
        name: StageRecord('train', state, seconds=50.0 if state == DONE else 0.0)
        for name, state in states.items()
    }
    Manifest(folder, stages=records).save()
    return Recipe(folder / 'r.py', folder, STAGES)


def write_log(folder, stamp, *records):
    path = folder / stamp / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)))
    return path


def test_progress_is_read_from_manifest_and_the_newest_log(tmp_path):
    recipe = recipe_of(tmp_path, adapt=DONE, label=DONE, distill=manifest.RUNNING)
    write_log(tmp_path / 'distill', '20250101', {'loss': 1, 'iter': 190, 'time': 9.0, 'step': 190})
    newest = write_log(
        tmp_path / 'distill',
        '20250102',
        {'loss': 1, 'iter': 20, 'time': 0.5, 'step': 20},
        {'mIoU': 0.1, 'time': 3.0, 'step': 20},
    )
    with open(newest, 'a') as file:
        file.write('\n{"loss": 2, "iter": 3')
    assert read_progress(recipe, ['adapt', 'distill']) == [
        StageProgress('adapt', True, 100, 100, 50.0),
        StageProgress('distill', False, 200, 20, 100.0),
    ]
    assert read_progress(recipe, ['distill'])[0].left == 0.9


def test_a_stage_that_logged_nothing_is_all_left(tmp_path):
    (adapt, label, _) = read_progress(recipe_of(tmp_path), ['adapt', 'label', 'distill'])
    assert adapt == StageProgress('adapt', False, 100, 0, None)
    assert (label.iterations, label.left) == (0, 1.0)


def test_a_stage_takes_what_its_log_says_or_other_seeds_or_the_mean_pace():
    assert seconds_left({0: [StageProgress('adapt', False, 100)]}) == {0: None}
    seeds = {
        # No seed has logged distill: it goes at the mean pace of adapt, which takes 80 s and 40 s for 100 iterations.
        0: [
            StageProgress('adapt', True, 100, 100, 80.0),
            StageProgress('label', True, 0, 0, 30.0),
            StageProgress('distill', False, 200),
        ],
        1: [
            StageProgress('adapt', False, 100, 25, 40.0),
            StageProgress('label', False),
            StageProgress('distill', False, 200),
        ],
    }
    pace = (80 + 40) / 200
    assert seconds_left(seeds) == {
        0: pytest.approx(200 * pace),
        1: pytest.approx(40 * 0.75 + 30 + 200 * pace),
    }


@pytest.mark.parametrize(
    ('running', 'waiting', 'jobs', 'seconds'),
    [
        ([], [], 2, 0),
        ([5.0, 9.0], [], 2, 9),
        # The waiting ones start after 5 and 9 s.
        ([5.0, 9.0], [10.0, 10.0], 2, 19),
        ([4.0], [10.0, 1.0], 3, 10),
        ([], [3.0, 3.0, 3.0], 1, 9),
    ],
)
def test_waiting_seeds_start_when_another_ends(running, waiting, jobs, seconds):
    assert study_seconds_left(running, waiting, jobs) == seconds


def board(tmp_path, terminal):
    recipes = [
        recipe_of(tmp_path / '0', adapt=DONE, label=DONE, distill=DONE),
        recipe_of(tmp_path / '1', adapt=DONE, label=manifest.RUNNING),
        recipe_of(tmp_path / '2'),
    ]
    states = (FINISHED, RUNNING, WAITING)
    runs = [SeedRun(i, recipes[i], [], state) for i, state in enumerate(states)]
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    return Board(runs, ['adapt', 'label', 'distill'], 1, console), console


def test_the_live_table_shows_every_seed_and_the_time_left(tmp_path):
    shown, console = board(tmp_path, terminal=True)
    with shown:
        shown.update()
    text = console.file.getvalue()
    for words in ('finished', 'running', 'label (2 of 3)', 'waiting'):
        assert words in text
    # Seed 1 still has label and distill, seed 2 everything, 50 s each; one at a time.
    assert 'about 4 min 10 s left' in text


def test_without_a_terminal_there_is_a_line_per_change(tmp_path, monkeypatch):
    monkeypatch.setattr(study_progress, '_REFRESH_SECONDS', 0.0)
    shown, console = board(tmp_path, terminal=False)
    with shown:
        shown.update()
        shown.update()
        recipe_of(tmp_path / '1', adapt=DONE, label=DONE)
        shown.update()
        recipe_of(tmp_path / '1', adapt=DONE, label=DONE, distill=DONE)
        shown.update()
    assert console.file.getvalue().splitlines() == [
        'seed 0: finished',
        'seed 1: running, label (2 of 3)',
        'seed 2: waiting',
        'seed 1: running, distill (3 of 3)',
        'seed 1: running, report',
    ]
