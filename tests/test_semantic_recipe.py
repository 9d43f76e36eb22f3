"""From labels to a shipped segmentor through the command line: teacher, label maps, student, export, plain mmseg."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from castkd.datasets.pseudo_maps import read_pseudo_maps
from castkd.datasets.scenes import generate_scenes
from tests.plain_project import SEGMENTOR, SHORT, call, plain_answer
from tools import export_student, pseudo_label, train
from tools import test as evaluate

RECIPE = Path(__file__).parents[1] / 'configs' / 'quickstart' / 'semantic_scenes.py'
STEPS = 2


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with scenes in which the recipe was run."""
    root = tmp_path_factory.mktemp('semantic')
    generate_scenes(root / 'data/scenes', num_train=8, num_val=2, size=(64, 128))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        # Asking the machine for its compilers takes a second.
        patch.setattr('mmengine.runner.runner.collect_env', dict)
        options = [f'train_cfg.max_iters={STEPS}', 'fraction=0.25', 'score_thr=0.02']
        call(train, RECIPE, '--cfg-options', *SHORT, *options)
    return root / 'work_dirs/semantic_scenes'


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[1])
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    return folder


def test_the_recipe_measures_every_network(folder):
    stages = json.loads((folder / 'recipe.json').read_text())['stages']
    assert [stage['state'] for stage in stages.values()] == ['done'] * 4
    for name in ('supervised', 'teacher', 'student'):
        assert 0 <= stages[name]['metrics']['mIoU'] <= 100
    assert stages['student']['images'] == {'labeled': 2, 'unlabeled': 6}
    assert {'mIoU', 'accuracy', 'share'} <= set(stages['label']['metrics'])
    assert (folder / 'report.html').is_file()
    log = next((folder / 'student').glob('*/vis_data/scalars.json')).read_text()
    assert 'unsup.decode.loss_ce' in log
    assert (folder / 'student/pictures' / f'iter_{STEPS}.png').is_file()


IN_STEP = """
_base_ = [
    '{configs}/quickstart/semantic/base.py',
    '{configs}/_base_/methods/semantic_self_training.py',
]
model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        big=dict(type='castkd.FrozenTeacher', model=_base_.teacher, checkpoint='{checkpoint}')
    ),
    pseudo_labeler=dict(score_thr=0.05),
)
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(split=dict(fraction=0.25))
)
param_scheduler = []
train_cfg = dict(max_iters=2)
"""


def test_a_teacher_labels_in_the_step(here, tmp_path):
    """All hooks of the runtime speak of classes and pixels."""
    checkpoint = here / 'teacher' / f'iter_{STEPS}.pth'
    config = IN_STEP.format(configs=RECIPE.parents[1], checkpoint=checkpoint)
    (tmp_path / 'in_step.py').write_text(config)
    work_dir = tmp_path / 'work'
    call(train, tmp_path / 'in_step.py', '--work-dir', work_dir)
    log = next(work_dir.glob('*/*.log')).read_text()
    assert "teacher 'big' has mIoU 0." in log
    assert "pseudo-labels of 'big' on validation images: mIoU 0." in log
    scalars = next(work_dir.glob('*/vis_data/scalars.json')).read_text()
    assert 'pseudo_share/big' in scalars
    assert (work_dir / 'pictures/iter_2.png').is_file()
    weights = torch.load(work_dir / 'iter_2.pth', weights_only=False)['state_dict']
    assert not [key for key in weights if not key.startswith(('student.', 'step'))]


def test_label_maps_are_of_the_pool_only_and_as_they_are_listed(folder):
    content = read_pseudo_maps(folder / 'label/annotations.json')
    labelled = set(json.loads((folder / 'teacher/split.json').read_text())['labeled'])
    names = {image['file_name'] for image in content.images}
    assert len(names) == 6
    assert not names & labelled
    for image in content.images:
        labels = np.asarray(Image.open(image['labels']))
        confidence = np.asarray(Image.open(image['confidence']))
        assert labels.dtype == confidence.dtype == np.uint8
        assert labels.shape == confidence.shape == (image['height'], image['width']) == (64, 128)
        assert set(np.unique(labels).tolist()) <= {*range(19), 255}
        assert np.bincount(labels[labels != 255], minlength=19).tolist() == image['pixels']
        # A threshold of 0.02 is below 1 / 19, so everything is labelled.
        assert (labels != 255).all()
    assert content.info['labelled_share'] == 1


def test_a_killed_labelling_goes_on_with_the_same_files(here, tmp_path, monkeypatch):
    """Sizes differ within a batch; unsure pixels are 255."""
    images = tmp_path / 'images'
    images.mkdir()
    rng = np.random.default_rng(0)
    for index, size in enumerate([(40, 60), (33, 47), (40, 60)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f'{index}.png')
    given = [here / 'teacher/config.py', here / 'teacher' / f'iter_{STEPS}.pth']
    options = ['--images', images, '--batch-size', '2', '--device', 'cpu', '--score-thr', '0.07']
    call(pseudo_label, *given, *options, '--out', tmp_path / 'whole.json')

    from castkd.apis.semantic_labels import SemanticLabels

    record = SemanticLabels.record

    def killed(self, name, sample):
        if name == '2.png':
            raise KeyboardInterrupt
        return record(self, name, sample)

    monkeypatch.setattr(SemanticLabels, 'record', killed)
    with pytest.raises(KeyboardInterrupt):
        call(pseudo_label, *given, *options, '--out', tmp_path / 'again.json')
    assert not (tmp_path / 'again.json').exists()
    monkeypatch.setattr(SemanticLabels, 'record', record)
    call(pseudo_label, *given, *options, '--out', tmp_path / 'again.json')
    whole, again = (read_pseudo_maps(tmp_path / f'{name}.json') for name in ('whole', 'again'))
    for first, second in zip(whole.images, again.images, strict=True):
        assert first['labels_sha256'] == second['labels_sha256']
        labels = np.asarray(Image.open(second['labels']))
        unsure = np.asarray(Image.open(second['confidence'])) / 255
        assert (unsure[labels == 255] <= 0.07 + 0.5 / 255).all()
        assert (unsure[labels != 255] >= 0.07 - 0.5 / 255).all()


def test_options_of_instances_are_refused(here, tmp_path, capsys):
    given = [here / 'teacher/config.py', here / 'teacher' / f'iter_{STEPS}.pth', '--device', 'cpu']
    sys_argv = [
        'x',
        *given,
        '--images',
        'data/scenes/leftImg8bit/val',
        '--out',
        tmp_path / 'a.json',
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [*map(str, sys_argv), '--overlap', 'keep'])
        assert pseudo_label.main() == 2
    assert "overlap='keep' is about instances" in capsys.readouterr().err


def test_an_exported_student_is_plain_mmseg(here, tmp_path):
    given = [here / 'student/config.py', here / 'student' / f'iter_{STEPS}.pth']
    call(export_student, *given, '--out', tmp_path)
    text = (tmp_path / 'student.py').read_text()
    assert 'castkd' not in text
    config = Config.fromfile(tmp_path / 'student.py')
    assert config.default_scope == 'mmseg'
    assert config.test_pipeline[2] == {'type': 'LoadAnnotations'}
    for name, pair in (
        ('trained', given),
        ('exported', [tmp_path / 'student.py', tmp_path / 'student.pth']),
    ):
        call(evaluate, *pair, '--out', tmp_path / f'{name}.json', '--work-dir', tmp_path / name)
    metrics = [
        json.loads((tmp_path / f'{name}.json').read_text())['metrics']
        for name in ('trained', 'exported')
    ]
    assert metrics[0]['mIoU'] == metrics[1]['mIoU']
    stages = json.loads((here / 'recipe.json').read_text())['stages']
    assert metrics[0]['mIoU'] == stages['student']['metrics']['mIoU']
    image = next((here.parents[1] / 'data/scenes/leftImg8bit/val').rglob('*.png'))
    from castkd.apis.predictor import load_predictor

    wanted = load_predictor(*given).predict_paths([image])[0].seg_logits.data
    assert torch.equal(plain_answer(SEGMENTOR, tmp_path, image), wanted)


def test_labels_on_the_grid_of_the_logits_are_no_matter_of_predictions(here, tmp_path):
    """The pipelines of TransKD's published protocol, where mIoU is that of maps of a quarter of the side."""
    config = Config.fromfile(here / 'student/config.py')
    for loader in ('val_dataloader', 'test_dataloader'):
        config[loader].dataset.pipeline.insert(-1, dict(type='castkd.LabelsAtStride', stride=4))
    config.dump(tmp_path / 'coarse.py')
    given = [tmp_path / 'coarse.py', here / 'student' / f'iter_{STEPS}.pth']
    images = here.parents[1] / 'data/scenes/leftImg8bit/val'
    options = ['--images', images, '--reference', 'data/scenes/gtFine/val', '--device', 'cpu']
    call(pseudo_label, *given, *options, '--out', tmp_path / 'labels.json')
    for image in read_pseudo_maps(tmp_path / 'labels.json').images:
        assert (image['height'], image['width']) == (64, 128)
        assert np.asarray(Image.open(image['labels'])).shape == (64, 128)
    call(export_student, *given, '--out', tmp_path)
    assert 'castkd' not in (tmp_path / 'student.py').read_text()
    # Validation goes on to compare maps of a quarter.
    call(evaluate, *given, '--out', tmp_path / 'coarse.json', '--work-dir', tmp_path / 'work')
    assert 0 <= json.loads((tmp_path / 'coarse.json').read_text())['metrics']['mIoU'] <= 100
