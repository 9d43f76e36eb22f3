"""All forms do the same work on the same batch, and the benchmark runs."""

import json

import pytest
import torch
from mmengine.registry import DefaultScope

from benchmarks import semi_supervised_detector as benchmark

UNLABELED = 2


@pytest.fixture(scope='module', autouse=True)
def narrow():
    """A detector of the same structure that trains in less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, 'CHANNELS', 16)
        config = benchmark.faster_rcnn()
        config.backbone.base_channels = 8
        config.neck.in_channels = [8, 16, 32, 64]
        patch.setattr(benchmark, 'faster_rcnn', lambda: config)
        yield


def first_losses(form):
    """Return the losses of the first step, without the forms' own prefixes, and the pseudo-labels per image."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = benchmark.build(form)
        data = model.data_preprocessor(benchmark.make_batch(1, UNLABELED, 64), True)
        torch.manual_seed(0)
        losses = model(**data, mode='loss')
    named = {name.replace('.', '_', 1): value for name, value in losses.items() if 'loss' in name}
    samples = data['data_samples']['unsup_student']
    if form == benchmark.OURS:
        samples = model.last_step.targets['unsup_student']
    return named, [len(sample.gt_instances) for sample in samples]


@pytest.fixture(scope='module')
def ours():
    return first_losses(benchmark.OURS)


def test_semi_base_detector_has_the_same_losses(ours):
    losses, labels = first_losses(benchmark.BASE)
    assert labels == ours[1] == UNLABELED * [benchmark.OBJECTS]
    assert {'sup_loss_rpn_cls', 'unsup_loss_bbox'} <= set(losses)
    torch.testing.assert_close(losses, ours[0])


def test_soft_teacher_has_the_same_labelled_losses_and_as_many_labels(ours):
    losses, labels = first_losses(benchmark.SOFT)
    assert labels == ours[1]
    for name in losses:
        if name.startswith('sup_'):
            torch.testing.assert_close(losses[name], ours[0][name])
    assert losses['unsup_loss_bbox'] > 0


def test_command_compares_all_forms(tmp_path, monkeypatch, capsys):
    # In this process, a form may get along with memory that is there already.
    monkeypatch.setattr(benchmark, 'run_apart', lambda function, *rest: 1 + function(*rest))
    out = tmp_path / 'detector.json'
    sizes = ['--labeled', '1', '--unlabeled', '1', '--size', '64', '--device', 'cpu']
    benchmark.main(['--repeat', '1', *sizes, '--out', str(out)])
    rows = {row['form']: row for row in json.loads(out.read_text())['rows']}
    assert list(rows) == list(benchmark.FORMS)
    assert rows[benchmark.OURS]['throughput_ratio'] == rows[benchmark.OURS]['memory_ratio'] == 1.0
    soft = rows[benchmark.SOFT]
    expected = rows[benchmark.OURS]['images_per_second'] / soft['images_per_second']
    assert soft['throughput_ratio'] == pytest.approx(expected)
    assert soft['memory_ratio'] == rows[benchmark.OURS]['peak_mib'] / soft['peak_mib']
    assert 'SoftTeacher' in capsys.readouterr().out


def teacher_after(form, steps):
    """Return the weights and averages of the teacher once so many steps were trained."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = benchmark.build(form)
        step = benchmark.make_step(model)
        for _ in range(steps):
            torch.manual_seed(0)
            step(benchmark.make_batch(1, UNLABELED, 64))
    teacher = model.teachers['ema'].model if form == benchmark.OURS else model.teacher
    return {key: value for key, value in teacher.state_dict().items() if value.is_floating_point()}


def test_teachers_follow_the_student_alike(monkeypatch):
    monkeypatch.setattr(benchmark, 'LEARNING_RATE', 0.01)
    monkeypatch.setattr(benchmark, 'MOMENTUM', 0.5)
    # Ours follows before a step, mmdet's after it.
    ours, theirs = teacher_after(benchmark.OURS, 2), teacher_after(benchmark.BASE, 1)
    torch.testing.assert_close(ours, theirs)
    first = teacher_after(benchmark.OURS, 1)
    assert any(not torch.equal(ours[key], first[key]) for key in ours)
