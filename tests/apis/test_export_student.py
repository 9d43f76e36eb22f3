import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from castkd.apis import export_student as exported_name
from castkd.apis.export_student import _castkd_types, export_student
from castkd.apis.predictor import Predictor, load_predictor
from castkd.checkpoints import sha256
from castkd.errors import CheckpointError, ConfigError, DataError
from tests.apis.tiny_project import CLASSES

PLAIN_PROJECT = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'castkd':
            raise ImportError('castkd is not installed here')

sys.meta_path.insert(0, Block())
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.runner import load_checkpoint

config, checkpoint, out, *images = sys.argv[1:]
model = init_detector(config, checkpoint, device='cpu')
load_checkpoint(model, checkpoint, strict=True)
assert model.dataset_meta['classes'] == ('car', 'person')
found = [inference_detector(model, image).pred_instances for image in images]
torch.save([dict(instances.items()) for instances in found], out)
assert 'castkd' not in sys.modules
"""


@pytest.fixture(scope='module')
def exported(project, tmp_path_factory):
    out = tmp_path_factory.mktemp('exported')
    return export_student(project.distiller_config, project.distiller_checkpoint, out)


def test_function_is_in_the_package():
    assert exported_name is export_student


def test_only_the_two_files_are_there(exported):
    folder = exported['config'].parent
    assert sorted(path.name for path in folder.iterdir()) == ['student.pth', 'student.py']
    assert exported['checkpoint'] == folder / 'student.pth'


def test_predicts_bit_for_bit_in_a_project_without_castkd(project, exported, tmp_path):
    script = tmp_path / 'plain_project.py'
    script.write_text(textwrap.dedent(PLAIN_PROJECT))
    images = sorted(map(str, project.images.rglob('*.png')))
    # Outside the repository, as a project of its own.
    done = subprocess.run(
        [sys.executable, script, *exported.values(), tmp_path / 'found.pt', *images],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    distiller = MODELS.build(Config.fromfile(project.distiller_config).model)
    content = torch.load(project.distiller_checkpoint, weights_only=True)
    distiller.load_state_dict(content['state_dict'])
    student = distiller.student.eval()
    student.dataset_meta = {'classes': CLASSES}
    predictor = Predictor(student, load_predictor(*exported.values()).config)
    wanted = [predictor.predict_paths([image])[0].pred_instances for image in images]
    found = torch.load(tmp_path / 'found.pt', weights_only=True)
    assert len(found) == len(wanted) == 5
    for first, second in zip(wanted, found, strict=True):
        assert set(first.keys()) == set(second)
        assert all(torch.equal(first[key], second[key]) for key in second)


def test_config_is_plain(exported):
    assert 'castkd' not in exported['config'].read_text()
    config = Config.fromfile(exported['config'])
    assert config.default_scope == 'mmdet'
    assert config.model.type == 'Mask2Former'
    assert config.model.data_preprocessor.type == 'DetDataPreprocessor'
    for loader in ('test_dataloader', 'val_dataloader'):
        assert config[loader].dataset.metainfo.classes == CLASSES
        assert config[loader].dataset.pipeline[0] == {'type': 'LoadImageFromFile'}
    assert config.test_evaluator.type == 'CocoMetric'
    assert config.test_pipeline == config.test_dataloader.dataset.pipeline
    assert not {'custom_imports', 'custom_hooks', 'train_cfg'} & set(config.keys())


def test_checkpoint_is_a_prefix_only_rename_with_its_origin(project, exported):
    content = torch.load(exported['checkpoint'], weights_only=True)
    source = torch.load(project.distiller_checkpoint, weights_only=True)
    renamed = {
        key.removeprefix('student.'): value
        for key, value in source['state_dict'].items()
        if key.startswith('student.')
    }
    assert list(content['state_dict']) == list(renamed)
    assert all(torch.equal(content['state_dict'][key], value) for key, value in renamed.items())
    meta = content['meta']
    assert meta['dataset_meta']['classes'] == CLASSES
    assert len(meta['dataset_meta']['palette']) == len(CLASSES)
    assert meta['cfg'] == exported['config'].read_text()
    assert meta['iter'] == 3
    assert meta['castkd']['teachers'] == source['meta']['castkd']['teachers']
    assert meta['castkd']['exported_from'] == 'distiller.pth'
    assert meta['castkd']['exported_from_sha256'] == sha256(project.distiller_checkpoint)


def test_export_of_an_export_is_the_same(exported, tmp_path):
    again = export_student(exported['config'], exported['checkpoint'], tmp_path)
    assert again['config'].read_text() == exported['config'].read_text()
    first = torch.load(exported['checkpoint'], weights_only=True)['state_dict']
    second = torch.load(again['checkpoint'], weights_only=True)['state_dict']
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_references_to_first_weights_are_gone(project, tmp_path):
    config = Config.fromfile(project.distiller_config)
    config.model.student.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': 'nowhere.pth'}
    files = export_student(config, project.distiller_checkpoint, tmp_path)
    assert Config.fromfile(files['config']).model.backbone.init_cfg is None


def test_student_with_a_castkd_part_is_refused(project, tmp_path):
    options = {'test_evaluator': {'type': 'castkd.Metric'}}
    with pytest.raises(
        ConfigError, match=r'cannot run without castkd, it uses test_evaluator\.type=castkd\.Metric'
    ):
        export_student(project.config, project.checkpoint, tmp_path / 'out', options)
    assert not (tmp_path / 'out').exists()


def test_every_place_of_a_castkd_type_is_found():
    class Part:
        __module__ = 'castkd.heads.part'

    config = {
        'model': {'head': {'type': Part}, 'neck': {'type': 'FPN', '_scope_': 'castkd'}},
        'pipeline': [{'type': 'Resize'}, {'type': 'castkd.Weak', 'name': 'castkd'}],
    }
    keys = [key for key, _ in _castkd_types(config)]
    assert keys == ['model.head.type', 'model.neck._scope_', 'pipeline.1.type']


def test_wrong_checkpoint_writes_nothing(project, tmp_path):
    options = {'model.panoptic_head.num_queries': 7}
    with pytest.raises(CheckpointError, match='is a checkpoint of another model'):
        export_student(project.config, project.checkpoint, tmp_path / 'out', options)
    assert not (tmp_path / 'out').exists()


def test_failed_proof_writes_nothing(project, tmp_path, monkeypatch):
    whole = Predictor.predict_images
    count = 0

    def predict(self, images):
        nonlocal count
        count += 1
        samples = whole(self, images)
        if count > 1:
            samples[0].pred_instances.scores[0] += 1e-6
        return samples

    monkeypatch.setattr(Predictor, 'predict_images', predict)
    with pytest.raises(
        CheckpointError, match=r'differ in pred_instances\.scores; nothing was written'
    ):
        export_student(project.config, project.checkpoint, tmp_path)
    assert list(Path(tmp_path).iterdir()) == []


def test_config_value_without_text_is_refused(project, tmp_path):
    options = {'test_evaluator.metric_items': object()}
    with pytest.raises(ConfigError, match='cannot be written as text') as caught:
        export_student(project.config, project.checkpoint, tmp_path, options)
    assert '\n' not in str(caught.value)
    assert list(Path(tmp_path).iterdir()) == []


def test_unwritable_folder(project, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='export: cannot write to'):
        export_student(project.config, project.checkpoint, tmp_path / 'file' / 'out')
