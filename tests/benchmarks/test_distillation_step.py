"""The bare parts do the work of the step, and the benchmark runs."""

import copy
import json

import pytest
import torch
from mmengine.config import Config

from benchmarks import distillation_step as benchmark
from tests.builders import tiny_mask2former

STUDENT = tiny_mask2former(1)
CONFIG = dict(
    image_size=(64, 64),
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


def gradients(distiller):
    # What the contrastive loss sends into the encoder is cut off in the parts.
    chosen = {'head': distiller.student.panoptic_head, 'cast': distiller.objectives}
    return {
        f'{name}.{key}': parameter.grad.clone()
        for name, module in chosen.items()
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize('online', [False, True])
def test_parts_add_up_to_the_step(online):
    config = Config(copy.deepcopy(CONFIG))
    distiller = benchmark.build_distiller(config, online)
    batch = benchmark.make_batch(config, 'cpu')
    parts = benchmark.bare_parts(distiller, *batch)
    benchmark._start_alike(distiller)
    step = benchmark.run_step(distiller, *batch)
    expected = gradients(distiller)
    if online:
        assert distiller.last_step.statistics['pseudo.kept'] == 2 * benchmark.OBJECTS
    benchmark._start_alike(distiller)
    values = [part() for part in parts.values()]
    torch.testing.assert_close(sum(value for value in values if value is not None), step)
    torch.testing.assert_close(gradients(distiller), expected)
    assert len(expected) > 50
    views = {name.partition(', ')[2] for name in parts} - {''}
    assert views == set(benchmark.VIEWS)
    assert any('teacher' in name.partition(',')[0] for name in parts) == online


def test_command_reports_shares_and_ratio(tmp_path, capsys):
    config_file, out = tmp_path / 'stage.py', tmp_path / 'step.json'
    Config(copy.deepcopy(CONFIG)).dump(config_file)
    arguments = ['--config', str(config_file), '--repeat', '2', '--device', 'cpu']
    benchmark.main([*arguments, '--out', str(out)])
    result = json.loads(out.read_text())
    assert result['ratio'] > 0
    assert all(seconds > 0 for seconds in [result['step'], *result['parts'].values()])
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*result['parts'], 'step of the distiller'))


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
    inputs, samples = benchmark.make_batch(config, 'cpu')
    counts = config.train_dataloader.batch_sampler.counts
    assert inputs['sup'].shape == (counts.labeled, 3, *config.image_size)
    assert len(samples['unsup_student']) == counts.unlabeled
