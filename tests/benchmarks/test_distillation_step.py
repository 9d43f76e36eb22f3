"""The bare parts do the work of the step, and the benchmark runs."""

import copy
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from benchmarks import distillation_step as benchmark
from benchmarks.bare_step import BareStep
from benchmarks.step_batch import OBJECTS, make_batch, size_of, views_of
from castkd.registry import build_model
from tests.builders import tiny_mask2former
from tests.detectors import tiny_detector
from tests.method_stages import SEMANTIC, method_stage, semantic_stage

CONFIGS = Path(__file__).parents[2] / 'configs'
STUDENT = tiny_mask2former(1)
CAST = dict(
    labeled_pipeline=[dict(crop_size=(64, 64))],
    teacher=STUDENT,
    model=dict(
        type='castkd.Distiller',
        student=STUDENT,
        classes=('nucleus',),
        objectives=dict(
            sup=dict(type='castkd.Supervised'),
            unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher', weight=2.0),
            cast=dict(
                type='castkd.InstanceContrast',
                projector=dict(type='castkd.ProjectionHead', in_channels=16),
                loss=dict(type='castkd.InstancePixelContrast', num_negatives=16),
                feature='backbone[1]',
            ),
        ),
    ),
    train_dataloader=dict(batch_sampler=dict(counts=dict(labeled=1, unlabeled=2))),
)
GID = dict(adapter=dict(in_channels=16, out_channels=16), selection=dict(min_size=4))
DETECTORS = ('retinanet', 'mask_rcnn')


def config_of(method):
    """Return a stage config with tiny networks."""
    if method == 'cast':
        return Config(copy.deepcopy(CAST))
    if method in DETECTORS:
        network = tiny_detector(method, num_classes=3)
        return method_stage('gid_unlabeled', network, dict(big=network), dict(gid=GID))
    return semantic_stage(method)


def gradients(distiller):
    return {
        name: parameter.grad.clone()
        for name, parameter in distiller.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize(
    ('method', 'online'),
    [('cast', False), ('cast', True), *((name, False) for name in (*SEMANTIC, *DETECTORS))],
)
def test_parts_add_up_to_the_step(method, online):
    config = config_of(method)
    distiller = benchmark.build_distiller(config, online)
    batch = make_batch(config, distiller, 'cpu')
    parts = BareStep(distiller, *batch).parts()
    benchmark._start_alike(distiller)
    step = benchmark.run_step(distiller, *batch)
    expected = gradients(distiller)
    if online:
        assert distiller.last_step.statistics['pseudo.kept'] == 2 * OBJECTS
    benchmark._start_alike(distiller)
    values = [part() for part in parts.values()]
    torch.testing.assert_close(sum(value for value in values if value is not None), step)
    torch.testing.assert_close(gradients(distiller), expected)
    assert len(expected) > 50
    # Each run of the plan is a part, and each teacher's name tells that it is one.
    runs = {(item.network, item.view) for item in distiller.plan()}
    named = [name.replace(',', '').split(' ') for name in parts if ', ' in name]
    assert {(name[0], name[-1]) for name in named if name[0] != 'mixing'} == runs
    assert {name[0] for name in named if name[1] == 'teacher'} == set(distiller.teachers)


def test_command_reports_shares_and_ratio(tmp_path, capsys):
    config_file, out = tmp_path / 'stage.py', tmp_path / 'step.json'
    config_of('mgd').dump(config_file)
    arguments = ['--config', str(config_file), '--repeat', '2', '--device', 'cpu']
    benchmark.main([*arguments, '--out', str(out)])
    result = json.loads(out.read_text())
    assert result['ratio'] > 0
    assert 0 < result['teachers'] < 1
    parts = result['parts'].items()
    added = sum(value for name, value in parts if name.startswith('objective'))
    others = sum(value for name, value in parts if not name.startswith('objective'))
    assert result['objectives'] == pytest.approx(added / others)
    assert result['peak_mib'] > 0
    assert all(seconds > 0 for seconds in [result['step'], *result['parts'].values()])
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*result['parts'], 'step of the distiller'))
    assert 'mixing, unsup_mixed' in shown


def test_a_batch_may_hold_fewer_images(tmp_path):
    config_file = tmp_path / 'stage.py'
    config_of('mgd').dump(config_file)
    whole = benchmark.read_config(config_file, images=None)
    assert whole.train_dataloader == config_of('mgd').train_dataloader
    config = benchmark.read_config(config_file, images=2)
    inputs, samples = make_batch(config, benchmark.build_distiller(config, online=False), 'cpu')
    assert {name: (len(inputs[name]), len(samples[name])) for name in inputs} == {
        'sup': (2, 2),
        'unsup_teacher': (2, 2),
    }


def test_backbones_need_no_files():
    """The paper's sizes start from checkpoints of ImageNet, which need not be there to be measured."""
    config = benchmark.read_config(CONFIGS / 'gid/coco/distill.py', images=1)
    networks = (config.model.student, config.model.teachers.big.model)
    assert [network.backbone.init_cfg for network in networks] == [None, None]
    others = Config.fromfile(CONFIGS / 'gid/coco/distill.py').model
    for network, other in zip(networks, (others.student, others.teachers.big.model), strict=True):
        assert {**network, 'backbone': {**network.backbone, 'init_cfg': None}} == {
            **other,
            'backbone': {**other.backbone, 'init_cfg': None},
        }


def test_the_shipped_stage_has_what_the_benchmark_reads():
    config = Config.fromfile(benchmark.CONFIG)
    distiller = benchmark.build_distiller(config, online=True)
    plan = {(request.network, request.view, request.kind) for request in distiller.plan()}
    assert plan == {
        ('online', 'unsup_teacher', 'predict'),
        ('student', 'sup', 'loss'),
        ('student', 'unsup_teacher', 'loss'),
        ('student', 'sup_strong', 'encode'),
        ('student', 'unsup_student', 'encode'),
    }
    inputs, samples = make_batch(config, distiller, 'cpu')
    counts = config.train_dataloader.batch_sampler.counts
    assert inputs['sup'].shape == (counts.labeled, 3, 128, 128)
    assert len(samples['unsup_student']) == counts.unlabeled


@pytest.mark.parametrize(
    'stage', ['mgd/camvid/distill', 'lad/camvid/student', 'transkd/camvid/distill_ea']
)
def test_stages_of_camvid_have_what_the_benchmark_reads(stage):
    config = Config.fromfile(CONFIGS / f'{stage}.py')
    distiller = benchmark.build_distiller(config, online=False)
    inputs, samples = make_batch(config, distiller, 'cpu')
    counts = config.train_dataloader.batch_sampler.counts
    assert inputs['sup'].shape == (counts.labeled, 3, 160, 160)
    labels = samples['sup'][0].gt_sem_seg.data
    assert labels.shape == (1, 160, 160)
    assert set(labels.unique().tolist()) <= {*range(11), 255}
    assert set(inputs) == ({'sup', 'unsup_teacher'} if 'mgd' in stage else {'sup'})


@pytest.mark.parametrize(
    ('stage', 'size', 'views'),
    [
        ('gid/nuclei128/distill', (128, 128), {'sup', 'unsup_teacher', 'unsup_student'}),
        ('quickstart/gid/distill', (128, 256), {'sup', 'unsup_teacher'}),
        ('gid/coco/distill', (800, 1344), {'sup'}),
    ],
)
def test_stages_of_detectors_have_what_the_benchmark_reads(stage, size, views):
    config = Config.fromfile(CONFIGS / f'{stage}.py')
    assert size_of(config, of_maps=False) == size
    with torch.device('meta'):
        distiller = build_model(config.model)
    assert set(views_of(distiller)) == views
