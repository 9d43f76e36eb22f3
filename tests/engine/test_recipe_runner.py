"""Which stages run, which are skipped, and what is refused; the stages themselves are stand-ins."""

import json
import os
import shutil
import time
import zipfile
from collections import Counter

import pytest

from castkd.engine import recipe_runner
from castkd.engine.manifest import Manifest
from castkd.engine.recipe import load_recipe
from castkd.engine.recipe_runner import Action, RecipeRunner
from castkd.engine.stage import StageResult
from castkd.errors import ConfigError, DataError, TrainingError
from tests.engine.toy_project import write_project

RECIPE = """
lr = 0.1
recipe = [
    dict(name='adapt', config='stage.py'),
    dict(name='label', kind='pseudo_label', config='{adapt.config}', checkpoint='{adapt.checkpoint}',
         images='images', exclude='{adapt.split}'),
    dict(name='distill', config='stage.py',
         cfg_options={'load_from': '{adapt.checkpoint}', 'train_dataloader.dataset.ann_file': '{label.annotations}',
                      'optim_wrapper.optimizer.lr': '{lr}'}),
]
"""


def write_checkpoint(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('data', text)
    return path


class World:
    """A recipe with stage functions that write files and note their calls."""

    def __init__(self, folder, recipe=RECIPE):
        self.path = write_project(folder, recipe)
        self.folder = folder
        self.work_dir = folder / 'w'
        self.jobs = []
        self.break_at = None
        self.counter = Counter()
        self.lines = []
        self.with_split = True

    def runner(self, **options):
        recipe = load_recipe(self.path, work_dir=self.work_dir, cfg_options=options)
        runners = {'train': self.train, 'pseudo_label': self.label}
        return RecipeRunner(recipe, runners, report=self.lines.append)

    def run(self, only=None, resume=False, **options):
        self.jobs.clear()
        return self.runner(**options).run(only, resume)

    def train(self, job):
        self.jobs.append(job)
        self.counter[job.name] += 1
        text = f'{job.name} {self.counter[job.name]}'
        write_checkpoint(job.folder / 'iter_1.pth', 'part')
        if self.break_at == job.name:
            raise TrainingError('stopped')
        outputs = {'checkpoint': write_checkpoint(job.folder / 'iter_2.pth', text)}
        for name, file in (('config', 'config.py'), ('metrics', 'metrics.json')):
            outputs[name] = job.folder / file
            outputs[name].write_text(text)
        if self.with_split:
            outputs['split'] = job.folder / 'split.json'
            outputs['split'].write_text('{}')
        return StageResult(outputs, {'mIoU': 0.5}, 2, 10, {'labeled': 3})

    def label(self, job):
        self.jobs.append(job)
        (job.folder).mkdir(parents=True, exist_ok=True)
        file = job.folder / 'annotations.json'
        if self.break_at == job.name:
            (job.folder / 'annotations.json.partial').write_text('half')
            raise DataError('stopped')
        file.write_text(f'labels {len(self.jobs)}')
        return StageResult({'annotations': file})

    def ran(self):
        return [(job.name, job.resume) for job in self.jobs]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_stages_run_in_order_with_the_files_of_earlier_ones(world):
    world.run()
    assert world.ran() == [('adapt', False), ('label', False), ('distill', False)]
    adapt, label, distill = world.jobs
    folder = world.work_dir
    assert adapt.folder == folder / 'adapt'
    assert label.options['checkpoint'] == str(folder / 'adapt' / 'iter_2.pth')
    assert label.options['config'] == str(folder / 'adapt' / 'config.py')
    assert label.options['exclude'] == str(folder / 'adapt' / 'split.json')
    assert distill.config['load_from'] == str(folder / 'adapt' / 'iter_2.pth')
    data = distill.config['train_dataloader']['dataset']
    assert data['ann_file'] == str(folder / 'label' / 'annotations.json')


def test_the_manifest_ties_inputs_to_outputs(world):
    manifest = world.run()
    assert manifest == Manifest.load(world.work_dir)
    adapt, distill = manifest.stages['adapt'], manifest.stages['distill']
    assert {record.state for record in manifest.stages.values()} == {'done'}
    assert distill.inputs['adapt.checkpoint'] == adapt.outputs['checkpoint']['sha256']
    assert adapt.metrics == {'mIoU': 0.5}
    assert (adapt.iterations, adapt.parameters, adapt.images) == (2, 10, {'labeled': 3})
    assert adapt.versions['torch']
    assert manifest.variables == {'lr': 0.1}


def test_finished_stages_are_skipped(world):
    world.run()
    world.run()
    assert world.ran() == []
    assert world.lines[-1] == 'distill: finished before, skipped'


def test_planning_writes_nothing(world):
    actions = world.runner().plan()
    assert [action for _, action in actions] == [Action.RUN] * 3
    assert not world.work_dir.exists()


def test_one_stage_runs_alone_when_its_inputs_are_finished(world):
    world.run(only='adapt')
    assert world.ran() == [('adapt', False)]
    world.run(only='label')
    assert world.ran() == [('label', False)]


def test_some_stages_run_in_the_order_of_the_recipe(world):
    world.run(only=['label', 'adapt'])
    assert world.ran() == [('adapt', False), ('label', False)]
    with pytest.raises(ConfigError, match="no stage 'lable'; did you mean 'label'"):
        world.run(only=['adapt', 'lable'])


def test_one_stage_is_refused_while_its_inputs_are_not_finished(world):
    with pytest.raises(ConfigError, match="--stage distill: its input stage 'adapt' is not finish"):
        world.run(only='distill')
    world.run(only='adapt')
    with pytest.raises(ConfigError, match="its input stage 'label' is not finished; run --stage l"):
        world.run(only='distill')


@pytest.mark.parametrize('broken', ['adapt', 'label', 'distill'])
def test_a_broken_stage_is_resumed_only_when_asked(world, broken):
    world.break_at = broken
    with pytest.raises((TrainingError, DataError), match=f"stage '{broken}': stopped"):
        world.run()
    world.break_at = None
    with pytest.raises(ConfigError, match=f"stage '{broken}' was broken off.*--resume.*--work-dir"):
        world.run()
    assert world.ran() == []
    manifest = world.run(resume=True)
    assert world.ran()[0] == (broken, True)
    assert [resume for _, resume in world.ran()[1:]] == [False] * (len(world.ran()) - 1)
    assert manifest.stages[broken].resumed == 1
    assert {record.state for record in manifest.stages.values()} == {'done'}


@pytest.mark.parametrize('single', [False, True])
def test_the_time_of_broken_processes_counts_until_their_last_file(tmp_path, single):
    world = World(tmp_path)
    if single:
        world.path = tmp_path / 'stage.py'
    name = 'stage' if single else 'adapt'
    world.break_at = name
    with pytest.raises(TrainingError):
        world.run(only=name)
    seconds = []
    for worked in (100, 50):
        # The process began two hours ago, wrote for so long, and was killed.
        manifest = Manifest.load(world.work_dir)
        began = manifest.stages[name].started = time.time() - 7200
        manifest.save()
        for path in world.runner().recipe.folder(name).rglob('*'):
            os.utime(path, (began + worked, began + worked))
        with pytest.raises(TrainingError):
            world.run(only=name, resume=True)
        seconds.append(Manifest.load(world.work_dir).stages[name].seconds)
    assert seconds == [100.0, 150.0]
    world.break_at = None
    assert world.run(only=name, resume=True).stages[name].seconds >= 150


def test_a_broken_process_of_which_no_start_is_known_does_not_count(world):
    world.break_at = 'adapt'
    with pytest.raises(TrainingError):
        world.run()
    manifest = Manifest.load(world.work_dir)
    manifest.stages['adapt'].started = 0.0
    manifest.save()
    world.break_at = None
    assert world.run(only='adapt', resume=True).stages['adapt'].seconds < 9999


def test_a_stage_made_again_is_timed_anew(world):
    world.run(only='adapt')
    manifest = Manifest.load(world.work_dir)
    manifest.stages['adapt'].seconds = 9999.0
    manifest.save()
    shutil.rmtree(world.work_dir / 'adapt')
    assert world.run(only='adapt').stages['adapt'].seconds < 9999


def test_a_second_process_waits_for_a_label_stage_that_is_made_again(world, monkeypatch):
    world.run(only='adapt')
    world.run(only='label')
    shutil.rmtree(world.work_dir / 'label')
    world.jobs.clear()
    manifest = Manifest.load(world.work_dir)
    assert manifest.stages['label'].state == 'done'

    def main_process(events):
        """Do what the first process does between the points where they meet."""
        for state in events:
            manifest.stages['label'].state = state
            manifest.save()
            yield

    meetings = main_process(['done', 'running', 'done'])
    waits = main_process(['running', 'done'])
    monkeypatch.setattr(recipe_runner, 'is_main_process', lambda: False)
    monkeypatch.setattr(recipe_runner, 'barrier', lambda: next(meetings))
    monkeypatch.setattr(recipe_runner.time, 'sleep', lambda _: next(waits))
    world.runner().run(only='label')
    assert world.ran() == []
    assert next(waits, 'waited to the end') == 'waited to the end'


def test_a_stage_that_broke_before_its_first_checkpoint_starts_again(world, monkeypatch):
    def fail(job):
        raise DataError('no data')

    monkeypatch.setattr(world, 'train', fail)
    with pytest.raises(DataError, match='no data'):
        world.run()
    monkeypatch.undo()
    world.run()
    assert world.ran()[0] == ('adapt', False)


def test_half_a_checkpoint_is_no_checkpoint(world):
    world.break_at = 'adapt'
    with pytest.raises(TrainingError):
        world.run()
    path = world.work_dir / 'adapt' / 'iter_1.pth'
    path.write_bytes(path.read_bytes()[:-10])
    world.break_at = None
    world.run(only='adapt')
    assert world.ran() == [('adapt', False)]


def test_a_finished_stage_with_another_config_is_refused_by_key(world):
    world.run()
    with pytest.raises(ConfigError) as caught:
        world.run(lr=0.2)
    message = str(caught.value)
    assert "stage 'distill' was finished with another config" in message
    assert 'optim_wrapper.optimizer.lr (0.1 -> 0.2)' in message
    assert str(world.work_dir / 'distill') in message
    assert '\n' not in message


def test_a_broken_stage_with_another_config_is_refused_even_with_resume(world):
    world.break_at = 'distill'
    with pytest.raises(TrainingError):
        world.run()
    with pytest.raises(ConfigError, match="'distill' was broken off with another config: optim_"):
        world.run(resume=True, lr=0.2)


def test_many_changes_are_shortened(world):
    world.run(only='adapt')
    options = {f'adapt.train_cfg.{key}': 1 for key in 'abcdef'}
    with pytest.raises(ConfigError, match=r'train_cfg\.d .* and 2 more\. Undo'):
        world.run(only='adapt', **options)


def test_options_of_a_label_stage_count_as_its_config(world):
    world.run()
    with pytest.raises(
        ConfigError, match=r"'label' was .*stage\.options\.score_thr \(absent -> 0.7"
    ):
        world.run(**{'label.score_thr': 0.7})


def test_where_and_how_loudly_it_runs_does_not_count(world):
    world.run()
    shutil.move(world.work_dir, world.folder / 'moved')
    world.work_dir = world.folder / 'moved'
    world.run(**{'log_level': 'ERROR', 'train_dataloader.num_workers': 2})
    assert world.ran() == []


@pytest.mark.parametrize('how', ['altered', 'missing'])
def test_a_finished_stage_whose_output_is_not_there_is_refused(world, how):
    world.run()
    path = world.work_dir / 'adapt' / 'iter_2.pth'
    path.unlink() if how == 'missing' else path.write_bytes(b'x')
    with pytest.raises(
        DataError, match=r"stage 'adapt' is finished but its checkpoint '.*iter_2.pth' is"
    ):
        world.run()
    assert world.ran() == []


def test_stages_after_one_that_is_made_again_are_stale(world):
    world.run()
    shutil.rmtree(world.work_dir / 'adapt')
    with pytest.raises(
        ConfigError, match="'label' is stale: its input stage 'adapt' is not finished"
    ):
        world.run()
    assert world.ran() == []
    world.run(only='adapt')
    assert world.ran() == [('adapt', False)]
    with pytest.raises(ConfigError, match=r"'label' is stale: adapt\.\w+ was made again since"):
        world.run()
    for name in ('label', 'distill'):
        shutil.rmtree(world.work_dir / name)
    world.run()
    assert world.ran() == [('label', False), ('distill', False)]


def test_a_changed_input_file_makes_a_stage_stale(tmp_path):
    file = tmp_path / 'train.json'
    file.write_text('{}')
    entry = f"dict(name='a', config='stage.py', cfg_options={{'train_dataloader.dataset.ann_file': '{file}'}})"
    world = World(tmp_path, f'recipe = [{entry}]\n')
    manifest = world.run()
    assert str(file) in manifest.stages['a'].inputs
    file.write_text('{"images": []}')
    with pytest.raises(
        ConfigError, match=r"stage 'a' is stale: its input file '.*train.json' changed"
    ):
        world.run()
    file.unlink()
    world.run()
    assert world.ran() == []


def test_an_output_that_a_stage_did_not_give_is_named(world):
    world.with_split = False
    with pytest.raises(ConfigError, match="label: exclude: stage 'adapt' gave no split"):
        world.run()


def test_work_without_a_manifest_is_not_touched(world):
    write_checkpoint(world.work_dir / 'adapt' / 'iter_9.pth', 'precious')
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r'holds work that .* has no record of'):
            world.run(resume=resume)


def test_a_lost_config_text_is_said(world):
    world.run(only='adapt')
    (world.work_dir / 'adapt.config.json').unlink()
    with pytest.raises(ConfigError, match='its config text is lost'):
        world.run(only='adapt', **{'adapt.train_cfg.max_iters': 9})


def test_a_plain_config_writes_into_the_work_dir_itself(tmp_path):
    world = World(tmp_path)
    world.path = tmp_path / 'stage.py'
    world.run()
    assert world.jobs[0].folder == world.work_dir
    world.run()
    assert world.ran() == []
    with pytest.raises(ConfigError, match=r'train_cfg\.max_iters \(4 -> 5\)'):
        world.run(**{'train_cfg.max_iters': 5})


def test_the_config_text_is_what_the_hash_is_of(world):
    manifest = world.run(only='adapt')
    text = (world.work_dir / 'adapt.config.json').read_text()
    assert json.loads(text)['train_cfg'] == {'by_epoch': False, 'max_iters': 4, 'val_interval': 100}
    assert len(manifest.stages['adapt'].config_sha256) == 64
