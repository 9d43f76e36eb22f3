import copy
import io

import pytest
from rich.console import Console

from castkd.engine.dry_run import plan_stages
from castkd.engine.manifest import DONE, Manifest, StageRecord
from castkd.engine.plans import StagePlan, plan_tables
from castkd.engine.recipe import Recipe, Stage, load_recipe
from tests.apis.tiny_project import CLASSES, make_project, plain_config
from tests.builders import tiny_mask2former
from tests.engine.toy_project import CONFIG, write_project


def plans_of(folder, **options):
    recipe = load_recipe(write_project(folder, **options), work_dir=folder / 'w')
    return plan_stages(recipe, recipe.stages)


def test_a_stage_is_built_and_timed(tmp_path):
    first, second = plans_of(tmp_path)
    assert (first.name, first.kind, first.state, first.iterations) == ('first', 'train', 'to do', 4)
    assert first.images == {'labeled': 8}
    assert first.step == 'per step 2 of 8 images'
    assert first.networks[0].parameters == 2
    assert first.networks[0].flops == 2
    assert first.seconds_per_step > 0
    assert first.seconds_per_image > 0
    assert first.predictions == 4
    assert first.seconds == pytest.approx(
        4 * first.seconds_per_step + 4 * first.seconds_per_image, rel=1e-6
    )
    assert first.estimate.startswith('~ ')
    assert first.notes == []
    assert second.notes == ["takes files from stage 'first', which is not finished"]
    assert second.seconds_per_step > 0


def test_nothing_is_written(tmp_path):
    write_project(tmp_path)
    before = sorted(path for path in tmp_path.rglob('*'))
    plans_of(tmp_path)
    assert sorted(path for path in tmp_path.rglob('*') if path.suffix != '.pyc') == before


def test_epochs_become_steps(tmp_path):
    config = CONFIG.replace('by_epoch=False, max_iters=4', 'by_epoch=True, max_epochs=3')
    config = config.replace('InfiniteSampler', 'DefaultSampler')
    (path,) = [write_project(tmp_path, config=config).with_name('stage.py')]
    recipe = load_recipe(path, work_dir=tmp_path / 'w')
    (plan,) = plan_stages(recipe, recipe.stages)
    assert plan.iterations == 3 * 4


@pytest.mark.parametrize(
    ('train_cfg', 'validations'),
    [
        ('by_epoch=False, max_iters=4, val_interval=2', 2),
        ('by_epoch=False, max_iters=5, val_interval=2', 3),
        ('by_epoch=False, max_iters=5, val_interval=1, val_begin=4', 2),
        ('by_epoch=True, max_epochs=3, val_interval=1', 3),
    ],
)
def test_every_validation_predicts_all_images(tmp_path, train_cfg, validations):
    config = CONFIG.replace('by_epoch=False, max_iters=4, val_interval=100', train_cfg)
    recipe = load_recipe(write_project(tmp_path, config=config).with_name('stage.py'))
    (plan,) = plan_stages(recipe, recipe.stages)
    assert plan.predictions == 4 * validations


def test_a_stage_without_validation_predicts_nothing(tmp_path):
    path = write_project(tmp_path).with_name('stage.py')
    keys = ('val_dataloader', 'val_cfg', 'val_evaluator')
    recipe = load_recipe(path, cfg_options=dict.fromkeys(keys))
    (plan,) = plan_stages(recipe, recipe.stages)
    assert (plan.predictions, plan.seconds_per_image) == (0, None)
    assert plan.seconds == plan.seconds_per_step * 4


def test_validation_data_that_cannot_be_read_are_a_note(tmp_path):
    path = write_project(tmp_path).with_name('stage.py')
    options = {'val_dataloader.batch_size': 8, 'val_dataloader.drop_last': True}
    recipe = load_recipe(path, cfg_options=options)
    (plan,) = plan_stages(recipe, recipe.stages)
    assert plan.notes == [
        'validation: 4 images make no batch; check the data, batch_size and drop_last'
    ]
    assert plan.seconds_per_image is None
    assert plan.estimate.startswith('~ ')


def test_data_that_training_would_refuse_are_a_note(tmp_path):
    project = make_project(tmp_path / 'project')
    recipe = distiller_recipe(tmp_path)
    config = recipe.stages[0].config
    data = plain_config(project)
    config['train_dataloader']['dataset'] = data['test_dataloader']['dataset']
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config[key] = data[key]
    (plan,) = plan_stages(recipe, recipe.stages)
    text = 'data: train_dataloader and val_dataloader share 5 of 5 images'
    assert any(note.startswith(text) for note in plan.notes)
    project.annotations.write_text('{"images": [')
    (plan,) = plan_stages(recipe, recipe.stages)
    found = [note.partition(': ')[0] for note in plan.notes if "truth.json' cannot be read" in note]
    assert found == ['data', 'validation']


LABEL_RECIPE = """
recipe = [
    dict(name='adapt', config='stage.py'),
    dict(name='label', kind='pseudo_label', config='{adapt.config}', checkpoint='{adapt.checkpoint}', images='images'),
    dict(name='other', kind='pseudo_label', config='stage.py', checkpoint='{adapt.checkpoint}', images='images'),
]
"""


def label_recipe(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / 'images').mkdir()
    for name in ('a.png', 'b.jpg', 'c.png'):
        (folder / 'images' / name).touch()
    return load_recipe(write_project(folder, LABEL_RECIPE), work_dir=folder / 'w')


def test_labelling_takes_as_long_as_the_network_of_its_config_predicts(tmp_path, monkeypatch):
    recipe = label_recipe(tmp_path, monkeypatch)
    adapt, label, other = plan_stages(recipe, recipe.stages)
    assert label.seconds_per_image == adapt.seconds_per_image
    assert other.seconds_per_image not in (None, adapt.seconds_per_image)
    for plan in (label, other):
        assert plan.predictions == 3
        assert plan.seconds == 3 * plan.seconds_per_image
        assert plan.estimate.startswith('~ ')


def test_labelling_alone_is_timed_too(tmp_path, monkeypatch):
    recipe = label_recipe(tmp_path, monkeypatch)
    (label,) = plan_stages(recipe, recipe.select('label'))
    assert label.seconds_per_image > 0
    assert label.notes == ["takes files from stage 'adapt', which is not finished"]


def test_finished_stages_are_known(tmp_path):
    recipe = load_recipe(write_project(tmp_path), work_dir=tmp_path / 'w')
    manifest = Manifest(tmp_path / 'w')
    (tmp_path / 'w').mkdir()
    (tmp_path / 'w' / 'weights.pth').write_text('x')
    manifest.stages['first'] = StageRecord('train', DONE)
    manifest.set_outputs('first', {'checkpoint': tmp_path / 'w' / 'weights.pth'})
    manifest.save()
    first, second = plan_stages(recipe, recipe.stages)
    assert first.state == 'done'
    assert second.notes == []


def test_a_missing_data_root_is_a_note(tmp_path):
    recipe = distiller_recipe(tmp_path)
    (plan,) = plan_stages(recipe, recipe.stages)
    assert any(note.startswith('data: ') and 'nowhere.json' in note for note in plan.notes)
    assert plan.seconds_per_step is None
    assert plan.estimate == ''
    assert plan.networks


def distiller_recipe(folder, **sources):
    student = tiny_mask2former()
    model = {
        'type': 'castkd.Distiller',
        'student': student,
        'teachers': {
            'big': {
                'type': 'castkd.FrozenTeacher',
                'model': copy.deepcopy(student),
                'checkpoint': '{adapt.checkpoint}',
            }
        },
        'pseudo_labeler': {'type': 'castkd.InstancePseudoLabeler'},
        'objectives': {
            'sup': {'type': 'castkd.Supervised'},
            'unsup': {'type': 'castkd.PseudoLabel', 'teacher': 'big', 'weight': 2.0},
            'off': {'type': 'castkd.Supervised', 'view': 'other', 'weight': 0.0},
        },
    }
    dataset = {'type': 'CocoDataset', 'ann_file': str(folder / 'nowhere.json'), 'pipeline': []}
    config = {
        'default_scope': 'mmdet',
        'model': model,
        'train_dataloader': {
            'batch_size': 1,
            'num_workers': 4,
            'prefetch_factor': 2,
            'persistent_workers': True,
            'dataset': {**dataset, **sources},
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        },
        'train_cfg': {'by_epoch': False, 'max_iters': 100},
        'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 1e-4}},
    }
    stage = Stage('distill', 'train', config, uses=[('adapt', 'checkpoint')])
    return Recipe(folder / 'recipe.py', folder / 'w', [stage])


def test_networks_passes_and_losses_of_a_distiller_need_no_checkpoint(tmp_path):
    recipe = distiller_recipe(tmp_path)
    (plan,) = plan_stages(recipe, recipe.stages)
    student, teacher = plan.networks
    assert (student.name, teacher.name) == ('student', 'big')
    assert student.parameters == teacher.parameters > 100_000
    # Weights, gradients and two moments against weights alone.
    assert student.megabytes == pytest.approx(4 * teacher.megabytes, rel=0.05)
    assert plan.passes == (
        'big on unsup_teacher (predict), student on sup (loss), student on unsup_student (loss)'
    )
    assert plan.losses == 'sup x 1, unsup x 2'
    assert "takes files from stage 'adapt', which is not finished" in plan.notes


def test_an_objective_that_begins_late_takes_less_time_in_all(tmp_path):
    recipe = distiller_recipe(tmp_path)
    late = dict(type='Linear', start=0.0, end=1.0, begin=2, steps=1)
    recipe.stages[0].config['model']['objectives']['unsup']['weight'] = late
    recipe.stages[0].config['train_cfg']['max_iters'] = 4
    (plan,) = plan_stages(recipe, recipe.stages)
    # Three runs in one or two of four steps, one run in the others.
    assert plan.passes.count('on') >= 3
    assert 1 / 3 < plan.mean_runs < 1
    plan.seconds_per_step, plan.predictions = 10.0, 0
    assert plan.seconds == pytest.approx(40.0 * plan.mean_runs)


def test_data_from_an_unfinished_stage_leave_the_networks_known(tmp_path):
    recipe = distiller_recipe(tmp_path, ann_file='{label.annotations}')
    (plan,) = plan_stages(recipe, recipe.stages)
    assert "its data come from stage 'label': images and time are not known yet" in plan.notes
    assert len(plan.networks) == 2


def test_pending_labels_are_timed_on_labelled_images(tmp_path):
    project = make_project(tmp_path / 'project')
    labeled = {
        'type': 'CocoDataset',
        'data_root': str(project.root),
        'ann_file': 'truth.json',
        'data_prefix': {'img': 'images/'},
        'metainfo': {'classes': CLASSES},
        'pipeline': [
            {'type': 'LoadImageFromFile'},
            {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
            {'type': 'PackDetInputs'},
        ],
    }
    pending = {**labeled, 'ann_file': '{label.annotations}'}
    sources = {'labeled': labeled, 'unlabeled': pending}
    recipe = distiller_recipe(tmp_path)
    config = recipe.stages[0].config
    config['model'] = {
        'type': 'castkd.Distiller',
        'student': tiny_mask2former(),
        'objectives': {'sup': {'type': 'castkd.Supervised'}},
    }
    config['train_dataloader'] = {
        'batch_size': 3,
        'num_workers': 0,
        'collate_fn': {'type': 'pseudo_collate'},
        'sampler': {'type': 'DefaultSampler'},
        'batch_sampler': {
            'type': 'castkd.RatioBatchSampler',
            'counts': {'labeled': 1, 'unlabeled': 2},
        },
        'dataset': {
            'type': 'castkd.SourceDataset',
            'sources': sources,
            'split': {'count': 2, 'seed': 0},
        },
    }
    (plan,) = plan_stages(recipe, recipe.stages)
    assert plan.notes[-1] == (
        "its data come from stage 'label': timed on labelled images in their place"
    )
    assert plan.seconds_per_step > 0
    assert plan.step == 'per step 1 labeled + 2 unlabeled'
    assert plan.images == {}
    assert sources['unlabeled'] == pending


def test_a_label_stage_says_how_many_images_it_labels(tmp_path):
    for name in ('a.png', 'b.jpg', 'c.txt'):
        (tmp_path / name).touch()
    options = [{'images': str(tmp_path)}, {'images': str(tmp_path / 'absent')}]
    stages = [Stage('label', 'pseudo_label', {}, item) for item in options]
    recipe = Recipe(tmp_path / 'recipe.py', tmp_path / 'w', stages)
    found, absent = plan_stages(recipe, recipe.stages)
    assert found.images == {'images': 2}
    assert absent.images == {}
    assert 'does not exist' in absent.notes[0]


def test_the_tables_show_everything(tmp_path):
    recipe = distiller_recipe(tmp_path)
    plans = plan_stages(recipe, recipe.stages)
    plans.append(StagePlan('tune', 'train', iterations=60, seconds_per_step=2.0))
    plans.append(StagePlan('label', 'pseudo_label', predictions=700, seconds_per_image=0.1))
    plans.append(StagePlan('old', 'train', DONE, iterations=60, seconds_per_step=2.0))
    console = Console(width=200, record=True, file=io.StringIO())
    for table in plan_tables('recipe.py', plans):
        console.print(table)
    text = console.export_text()
    for word in (
        'recipe.py: stages',
        'distill',
        'Mask2Former',
        'unsup x 2',
        '~ 2 min 0 s',
        '700 ~ 1 min 10 s',
        'to do: ~ 3 min 10 s on this',
    ):
        assert word in text
