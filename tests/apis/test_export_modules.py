"""An exported student whose parts mmdet does not have: their modules go with it."""

import os
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from castkd.apis.export_student import export_student
from castkd.apis.predictor import load_predictor
from castkd.errors import ConfigError
from tests.apis.test_export_student import PLAIN_PROJECT
from tests.apis.tiny_project import CLASSES
from tests.builders import tiny_dinov2_mask2former

pytest.importorskip('transformers')


@pytest.fixture(scope='module')
def trained(project, tmp_path_factory):
    """Config and checkpoint of a plain model on DINOv2, whose encoder names first weights that are gone."""
    folder = tmp_path_factory.mktemp('dinov2')
    config = Config.fromfile(project.config)
    config.model = tiny_dinov2_mask2former(len(CLASSES), pretrained='weights/that/are/gone')
    config.dump(folder / 'model.py')
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(folder / 'model.py').model)
    model.panoptic_head.cls_embed.bias.data = torch.tensor([1.5, 0.5, -1.0])
    meta = {'dataset_meta': {'classes': CLASSES}, 'iter': 3}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, folder / 'model.pth')
    return folder / 'model.py', folder / 'model.pth'


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
    return export_student(*trained, tmp_path_factory.mktemp('exported'))


def test_config_checkpoint_and_modules_are_there(exported):
    folder = exported['config'].parent
    assert {path.name for path in folder.iterdir()} == {
        'student.pth',
        'student.py',
        'student_modules',
    }
    names = {path.name for path in exported['modules'].iterdir()}
    assert names == {'__init__.py', 'checks.py', 'dinov2.py', 'dpt.py', 'errors.py', 'hub.py'}
    for path in exported['modules'].iterdir():
        assert 'from castkd' not in path.read_text()
        assert 'import castkd' not in path.read_text()


def test_predicts_bit_for_bit_where_castkd_cannot_be_imported(project, trained, exported, tmp_path):
    script = tmp_path / 'plain_project.py'
    script.write_text(PLAIN_PROJECT)
    images = sorted(map(str, project.images.rglob('*.png')))
    arguments = [exported['config'], exported['checkpoint'], tmp_path / 'found.pt', *images]
    done = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != 'PYTHONPATH'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / 'found.pt', weights_only=True)
    predictor = load_predictor(*trained)
    for path, instances in zip(images, found, strict=True):
        wanted = predictor.predict_paths([path])[0].pred_instances
        assert len(wanted) > 0
        assert all(torch.equal(wanted[key], instances[key]) for key in instances)


def test_an_export_can_be_exported_again(exported, tmp_path):
    again = export_student(exported['config'], exported['checkpoint'], tmp_path)
    assert again['config'].read_text() == exported['config'].read_text()
    for path in exported['modules'].iterdir():
        assert (again['modules'] / path.name).read_text() == path.read_text()
    # Into the same folder too, where modules lie already.
    export_student(exported['config'], exported['checkpoint'], tmp_path)


def test_nothing_of_the_draft_stays_behind(exported):
    assert not any(name.split('.')[0] == 'student_modules' for name in sys.modules)
    assert not any('.export-' in entry for entry in sys.path)


def test_a_part_that_is_not_copied_is_still_refused(trained, tmp_path):
    options = {'test_evaluator': {'type': 'castkd.Metric'}}
    with pytest.raises(ConfigError, match=r'it uses test_evaluator\.type=castkd\.Metric'):
        export_student(*trained, tmp_path / 'out', options)
