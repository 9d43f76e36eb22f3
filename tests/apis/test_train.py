"""The whole way from a recipe file to its results, with a network of one weight."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from castkd.apis import train
from castkd.apis.pseudo_label import generate_pseudo_labels
from castkd.apis.train import run_pseudo_label_stage
from castkd.checkpoints import load_checkpoint
from castkd.engine.recipe import PSEUDO_LABEL_OPTIONS
from castkd.engine.recipe_runner import RecipeRunner
from castkd.engine.stage import StageJob
from castkd.errors import ConfigError, DataError
from tests.engine.toy_project import CONFIG, RECIPE, write_project

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A recipe that has run: its path and what ``train`` returned."""
    folder = tmp_path_factory.mktemp('recipe')
    report = dict(
        rows=[dict(stage='second', label='student')],
        curves=['loss', 'lss'],
        pictures=dict(num=0),
    )
    path = write_project(folder, f'{RECIPE}report = {report}\n')
    return path, train(path, work_dir=folder / 'w')


def test_a_recipe_leaves_results_report_and_stage_folders(finished):
    path, content = finished
    folder = path.parent / 'w'
    assert json.loads((folder / 'results.json').read_text()) == content
    (row,) = content['rows']
    assert (row['stage'], row['label'], row['iterations']) == ('second', 'student', 4)
    assert row['images'] == {'labeled': 8}
    assert set(row['metrics']) == {'toy/mIoU'}
    page = (folder / 'report.html').read_text()
    assert 'student' in page
    # The losses of two stages, and the scalar that was asked for.
    assert page.count('data:image/png;base64') == 3
    assert 'no stage logged &#39;lss&#39;; did you mean &#39;loss&#39;' in page
    assert set(row['outputs']) == {'checkpoint', 'config', 'metrics'}
    metrics = json.loads((folder / row['outputs']['metrics']['path']).read_text())
    assert metrics == row['metrics']


def test_the_second_stage_starts_from_the_weights_of_the_first(finished):
    folder = finished[0].parent / 'w'
    text = (folder / 'second' / 'config.py').read_text()
    assert f'load_from = {str(folder / "first" / "iter_4.pth")!r}' in text
    logs = [log.read_text() for log in (folder / 'second').glob('*/*.log')]
    assert len(logs) == 1
    assert 'Load checkpoint from' in logs[0]
    assert 'second: 4 steps; per step 2 of 8 images' in logs[0]
    states = [
        load_checkpoint(folder / name / 'iter_4.pth')['state_dict'] for name in ('first', 'second')
    ]
    assert not torch.equal(states[0]['linear.weight'], states[1]['linear.weight'])


def test_each_stage_logs_into_its_own_folder(finished):
    folder = finished[0].parent / 'w'
    for name in ('first', 'second'):
        (scalars,) = (folder / name).glob('*/vis_data/scalars.json')
        steps = [json.loads(line)['step'] for line in scalars.read_text().splitlines()]
        assert steps == [1, 2, 3, 4, 4]


def test_a_finished_recipe_runs_nothing_again(finished, monkeypatch, capsys):
    path, content = finished

    def refuse(job):
        raise AssertionError(f'{job.name} ran again')

    monkeypatch.setattr(sys.modules['castkd.apis.train'], 'run_train_stage', refuse)
    page = (path.parent / 'w' / 'report.html').stat().st_mtime_ns
    assert train(path, work_dir=path.parent / 'w') == content
    assert 'second: finished before, skipped' in capsys.readouterr().out
    assert (path.parent / 'w' / 'report.html').stat().st_mtime_ns == page


def test_a_broken_training_resumed_ends_with_the_same_weights(finished, tmp_path, monkeypatch):
    path = finished[0]
    config = CONFIG.replace('InfiniteSampler', 'DefaultSampler').replace(
        'shuffle=True', 'shuffle=False'
    )
    single = write_project(tmp_path, config=config).with_name('stage.py')
    train(single, work_dir=tmp_path / 'whole')
    net = sys.modules['tests.engine.toy_project'].ToyNet
    forward = net.forward
    calls = []

    def dies_in_the_fourth_step(self, inputs, data_samples=None, mode='tensor'):
        calls.append(mode)
        if calls.count('loss') == 4:
            raise KeyboardInterrupt
        return forward(self, inputs, data_samples, mode)

    monkeypatch.setattr(net, 'forward', dies_in_the_fourth_step)
    with pytest.raises(KeyboardInterrupt):
        train(single, work_dir=tmp_path / 'broken')
    monkeypatch.undo()
    with pytest.raises(ConfigError, match='go on with --resume'):
        train(single, work_dir=tmp_path / 'broken')
    content = train(single, work_dir=tmp_path / 'broken', resume=True)
    assert content['rows'][0]['resumed'] == 1
    states = [
        load_checkpoint(tmp_path / name / 'iter_4.pth')['state_dict']
        for name in ('whole', 'broken')
    ]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key])
    assert path.is_file()


def test_a_gpu_is_for_a_dry_run(tmp_path, capsys):
    path = write_project(tmp_path)
    with pytest.raises(ConfigError, match='--gpu is for a --dry-run'):
        train(path, work_dir=tmp_path / 'w', gpu='A100')
    content = train(path, work_dir=tmp_path / 'w', dry_run=True, gpu='A100')
    assert content['rows'][0].cost.step_operations > 0
    assert 'estimated cost' in capsys.readouterr().out
    assert not (tmp_path / 'w').exists()


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    content = train(write_project(tmp_path), work_dir=tmp_path / 'w', dry_run=True)
    assert [plan.name for plan in content['rows']] == ['first', 'second']
    assert 'GFLOPs' in capsys.readouterr().out
    assert not (tmp_path / 'w').exists()


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'stage': 'frist'}, "did you mean 'first'"),
        ({'cfg_options': {'model.widht': 1}}, r'first, second: model\.widht: ToyNet has no'),
        (
            {'cfg_options': {'report.rows': [{'stage': 'x'}]}},
            r"report\.rows\.0\.stage: no stage 'x'",
        ),
        (
            {'cfg_options': {'report.picture': 1}},
            "report: no key 'picture'; did you mean 'pictures'",
        ),
        ({'cfg_options': {'report.pictures.nmu': 1}}, "no key 'nmu'; did you mean 'num'"),
        (
            {'cfg_options': {'report.pictures.stages': ['x']}},
            "report.pictures.stages: no training stage 'x'",
        ),
        ({'cfg_options': {'report.pictures.best': -1}}, r'best must be an integer in \[0, inf'),
        (
            {'cfg_options': {'report.pictures': {'num': 3, 'worst': 2}}},
            'num=3 takes evenly spaced images',
        ),
        ({'cfg_options': {'report.curves': 'loss'}}, 'report.curves: must be a list of names'),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(tmp_path, options, words):
    with pytest.raises(ConfigError, match=f'(?s){words}'):
        train(write_project(tmp_path), work_dir=tmp_path / 'w', **options)
    assert not (tmp_path / 'w').exists()


def test_a_work_dir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(DataError, match='cannot be written') as caught:
        train(write_project(tmp_path), work_dir=tmp_path / 'file' / 'w')
    assert '\n' not in str(caught.value)


def test_a_disk_that_fills_up_while_training_is_one_line(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, 'No space left on device', 'scalars.json')

    path = write_project(tmp_path)
    monkeypatch.setattr('mmengine.visualization.vis_backend.LocalVisBackend.add_scalars', full)
    with pytest.raises(DataError, match=r"'scalars.json': the disk is full; free space") as caught:
        train(path, work_dir=tmp_path / 'w')
    assert '\n' not in str(caught.value)


def test_other_errors_of_the_system_stay_what_they_are(tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise OSError(5, 'Input/output error')

    path = write_project(tmp_path)
    monkeypatch.setattr(RecipeRunner, 'run', interrupted)
    with pytest.raises(OSError, match='Input/output error'):
        train(path, work_dir=tmp_path / 'w')


def test_a_label_stage_takes_every_option_of_the_labelling_function():
    names = list(inspect.signature(generate_pseudo_labels).parameters)
    fixed = {'config', 'out', 'resume', 'cfg_options'}
    assert set(PSEUDO_LABEL_OPTIONS) == set(names) - fixed


def test_a_label_stage_writes_annotations(tmp_path, project):
    options = {
        'config': str(project.config),
        'checkpoint': str(project.checkpoint),
        'images': str(project.images),
        'reference': str(project.annotations),
        'score_thr': 0.2,
        'batch_size': 2,
    }
    result = run_pseudo_label_stage(StageJob('label', tmp_path / 'label', {}, options))
    content = json.loads(result.outputs['annotations'].read_text())
    assert len(content['images']) == 5
    assert result.images == {'images': 5}
    assert {'precision', 'recall'} <= set(result.metrics)
    quality = json.loads(result.outputs['quality'].read_text())
    assert quality['precision'] == result.metrics['precision']
    del options['reference']
    result = run_pseudo_label_stage(StageJob('label', tmp_path / 'again', {}, options))
    assert set(result.outputs) == {'annotations'}


def test_functions_stay_in_front_of_modules_of_the_same_name():
    import castkd.apis.test
    import castkd.apis.train

    assert inspect.isfunction(castkd.apis.train)
    assert inspect.isfunction(castkd.apis.test)
    assert castkd.apis.export_student.__name__ == 'export_student'
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        castkd.apis.trian  # noqa: B018


def tool(*arguments):
    command = [sys.executable, str(ROOT / 'tools' / 'train.py'), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_tool_ends_with_one_line_and_status_2(tmp_path):
    result = tool(write_project(tmp_path), '--stage', 'frist', '--work-dir', tmp_path / 'w')
    assert result.returncode == 2
    (line,) = [text for text in result.stderr.splitlines() if text.startswith('error: ')]
    assert "did you mean 'first'" in line
    assert 'Traceback' not in result.stderr
