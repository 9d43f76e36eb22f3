import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from castkd.apis import export_student
from castkd.apis.command_line import parse_cfg_options, run_tool
from castkd.apis.test import test as evaluate
from castkd.errors import CheckpointError, ConfigError, DataError
from castkd.evaluation import instance_ap

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def trained(project, tmp_path, monkeypatch):
    """Let the model predict the truth of its images, except for the class of one instance in five images."""
    from mmdet.models import Mask2Former
    from mmengine.structures import InstanceData

    def predict(self, inputs, samples, rescale=True):
        for sample in samples:
            masks = torch.zeros(2, *sample.ori_shape, dtype=torch.bool)
            masks[0, 4:20, 4:24] = True
            masks[1, 24:36, 10:30] = True
            labels = torch.tensor([0, 0 if sample.img_id == 0 else 1])
            sample.pred_instances = InstanceData(
                masks=masks,
                labels=labels,
                scores=torch.tensor([0.9, 0.8]),
                bboxes=torch.zeros(2, 4),
            )
        return samples

    monkeypatch.setattr(Mask2Former, 'predict', predict)
    return project


def test_numbers_table_and_file(trained, tmp_path, capsys):
    metrics = evaluate(
        trained.distiller_config,
        trained.distiller_checkpoint,
        work_dir=tmp_path / 'work',
        out=tmp_path / 'results' / 'numbers.json',
    )
    # Class car: all five found, one false alarm below them; class person: four of five, precision 1.
    assert metrics['coco/segm_mAP_50'] == pytest.approx((1 + 81 / 101) / 2, abs=2e-3)
    stored = json.loads((tmp_path / 'results' / 'numbers.json').read_text())
    assert stored['metrics'] == metrics
    assert stored['checkpoint'] == str(trained.distiller_checkpoint)
    assert f'{metrics["coco/segm_mAP_50"]:.4f}' in capsys.readouterr().out


def test_distiller_plain_and_exported_give_the_same(project, tmp_path):
    files = export_student(project.distiller_config, project.distiller_checkpoint, tmp_path / 'out')
    runs = [
        (project.distiller_config, project.distiller_checkpoint),
        (project.config, project.checkpoint),
        (files['config'], files['checkpoint']),
    ]
    results = [evaluate(*run, work_dir=tmp_path / 'work') for run in runs]
    assert results[0] == results[1] == results[2]
    assert 'coco/segm_mAP' in results[0]


def test_weights_of_the_checkpoint_are_used(project, tmp_path, monkeypatch):
    from mmdet.models import Mask2Former

    seen = []
    predict = Mask2Former.predict

    def spy(self, *args, **kwargs):
        seen.append(self.panoptic_head.cls_embed.bias.clone())
        return predict(self, *args, **kwargs)

    monkeypatch.setattr(Mask2Former, 'predict', spy)
    evaluate(project.distiller_config, project.distiller_checkpoint, work_dir=tmp_path)
    assert len(seen) == 3
    assert torch.equal(seen[0], torch.tensor([1.5, 0.5, -1.0]))


def test_numbers_that_json_lacks(project, tmp_path, monkeypatch):
    monkeypatch.setattr(
        'mmengine.runner.Runner.test', lambda _: {'AP': 0.5, 'AP_train': float('nan')}
    )
    out = tmp_path / 'numbers.json'
    evaluate(project.config, project.checkpoint, work_dir=tmp_path, out=out)
    assert json.loads(out.read_text())['metrics'] == {'AP': 0.5, 'AP_train': None}


def test_numbers_are_shown_though_their_file_cannot_be_written(
    project, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr('mmengine.runner.Runner.test', lambda _: {'AP': 0.625})
    out = project.annotations / 'numbers.json'
    with pytest.raises(DataError, match=r'numbers\.json: cannot be written'):
        evaluate(project.config, project.checkpoint, work_dir=tmp_path, out=out)
    assert '0.6250' in capsys.readouterr().out


def test_pictures(project, tmp_path):
    evaluate(project.config, project.checkpoint, work_dir=tmp_path, show_dir=tmp_path / 'show')
    shown = sorted(path.name for path in (tmp_path / 'show').iterdir())
    assert shown == ['0.png', '1.png', '2.png', '3.png', '4.png']


def test_wrong_input(project, tmp_path):
    def run(options, checkpoint=project.checkpoint):
        return evaluate(project.config, checkpoint, work_dir=tmp_path, cfg_options=options)

    with pytest.raises(CheckpointError, match='is a checkpoint of another model'):
        run({'model.panoptic_head.num_queries': 7})
    with pytest.raises(CheckpointError, match='does not exist'):
        run({}, tmp_path / 'none.pth')
    with pytest.raises(DataError, match=r'none\.json.*check data_root and ann_file'):
        run({'test_dataloader.dataset.ann_file': 'none.json'})
    with pytest.raises(ConfigError, match=r'test_evaluator cannot be built.*NoMetric'):
        run({'test_evaluator.type': 'NoMetric'})
    with pytest.raises(ConfigError, match='has no test_evaluator'):
        run({'test_evaluator': None})


def test_instance_ap_agrees_with_the_evaluator(trained, tmp_path):
    from mmengine.structures import InstanceData

    from castkd.apis.predictor import load_predictor
    from castkd.evaluation.matching import to_run_lengths

    metrics = evaluate(trained.config, trained.checkpoint, work_dir=tmp_path)
    truth = json.loads(trained.annotations.read_text())
    paths = [trained.images / image['file_name'] for image in truth['images']]
    samples = load_predictor(trained.config, trained.checkpoint).predict_paths(paths, 1)
    truths = []
    for image in truth['images']:
        own = [item for item in truth['annotations'] if item['image_id'] == image['id']]
        truths.append(
            InstanceData(
                masks=[item['segmentation'] for item in own],
                labels=torch.tensor([item['category_id'] // 3 for item in own]),
            )
        )
    predictions = [sample.pred_instances for sample in samples]
    assert all(len(to_run_lengths(found.masks)) == 2 for found in predictions)
    found = instance_ap(predictions, truths, 2)
    assert found['AP50'] == pytest.approx(metrics['coco/segm_mAP_50'], abs=1e-3)
    assert found['AP'] == pytest.approx(metrics['coco/segm_mAP'], abs=1e-3)


def test_run_tool(capsys):
    def fail(error):
        raise error

    assert run_tool(lambda: None) == 0
    assert run_tool(lambda: fail(DataError('image x is broken'))) == 2
    assert capsys.readouterr().err == 'error: image x is broken\n'
    text = (
        'Caught DataError in DataLoader worker process 0.\nTraceback\ncastkd.errors.DataError: y\n'
    )
    assert run_tool(lambda: fail(DataError(text))) == 2
    assert capsys.readouterr().err == 'error: y\n'
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)


def test_cfg_options():
    words = ['a.b=1', 'c=[1,2]', 'd=x=y', 'e=True']
    assert parse_cfg_options(words) == {'a.b': 1, 'c': [1, 2], 'd': 'x=y', 'e': True}
    assert parse_cfg_options(None) == {}
    with pytest.raises(ConfigError, match="'a' is not key=value"):
        parse_cfg_options(['a'])


@pytest.mark.parametrize('tool', ['test', 'export_student', 'pseudo_label'])
def test_help_needs_no_heavy_import(tool):
    script = (
        'import runpy, sys; sys.argv = [sys.argv[1], "--help"]\n'
        'try:\n    runpy.run_path(sys.argv[0], run_name="__main__")\n'
        'except SystemExit as end:\n    assert end.code == 0\n'
        'assert not {"torch", "mmengine", "numpy"} & set(sys.modules)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script, TOOLS / f'{tool}.py'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'config' in done.stdout


@pytest.mark.parametrize(
    'arguments',
    [
        ['test.py'],
        ['export_student.py', '--out', 'out'],
        ['pseudo_label.py', '--images', 'images', '--out', 'out'],
    ],
)
def test_tools_end_with_one_line(project, tmp_path, monkeypatch, capsys, arguments):
    tool, *options = arguments
    options = [str(project.images) if option == 'images' else option for option in options]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [tool, str(project.config), 'none.pth', *options])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / tool), run_name='__main__')
    assert end.value.code == 2
    assert (
        capsys.readouterr().err == "error: checkpoint 'none.pth' does not exist; check the path\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_pseudo_label_tool(project, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'labels.json'
    words = ['--images', project.images, '--out', out, '--score-thr', '0.2', '--device', 'cpu']
    words += ['--reference', project.annotations, '--cfg-options', 'test_dataloader.num_workers=0']
    arguments = ['pseudo_label.py', project.config, project.checkpoint, *words]
    monkeypatch.setattr(sys, 'argv', list(map(str, arguments)))
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / 'pseudo_label.py'), run_name='__main__')
    assert end.value.code == 0
    info = json.loads(out.read_text())['info']
    shown = capsys.readouterr().out
    assert f'{info["num_instances"]} instances' in shown
    assert 'against the reference, 5 images' in shown
    assert 'score > 0.9' in shown


def test_export_tool(project, tmp_path, monkeypatch, capsys):
    arguments = ['export_student.py', project.config, project.checkpoint, '--out', tmp_path]
    monkeypatch.setattr(sys, 'argv', list(map(str, arguments)))
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOLS / 'export_student.py'), run_name='__main__')
    assert end.value.code == 0
    assert str(tmp_path / 'student.pth') in capsys.readouterr().out
