"""The shipped distillation methods: each runs as it is, with its weights, on a pair of segmentors."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from castkd.registry import MODELS
from castkd.teachers import Teacher
from tests.builders import make_map_sample, tiny_segmentor

METHODS = Path(__file__).parents[2] / 'configs' / '_base_' / 'methods' / 'distillation'
WEIGHTS = {
    'kd': {'kd': 1},
    'cwd': {'kd': 1, 'cwd': 3, 'cwd_feature': 50},
    'at': {'kd': 1, 'at': 10000},
    'fitnet': {'kd': 1, 'fitnet': 10},
    'skd': {'kd': 1, 'skd': 10},
    'ifvd': {'kd': 1, 'ifvd': 20},
    'dsd': {'psd': 1000, 'csd': 10},
    'cirkd': {'kd': 1, 'cirkd': 1},
    'dist': {'dist': 1},
}


def test_every_method_is_listed():
    assert {path.stem for path in METHODS.glob('*.py')} == set(WEIGHTS)


def with_auxiliary_head():
    network = tiny_segmentor()
    network['auxiliary_head'] = dict(network['decode_head'])
    return network


def trained(model, network, larger=None):
    """Return the distiller of a method, its teacher, and the losses of a step."""
    teacher = Teacher(larger or network)
    distiller = MODELS.build({**model, 'student': network, 'teachers': {'big': teacher}})
    distiller.init_weights()
    samples = [make_map_sample(torch.randint(0, 3, (96, 96)).numpy()) for _ in range(2)]
    images = torch.randn(2, 3, 96, 96)
    return distiller, teacher, distiller({'sup': images}, {'sup': samples}, mode='loss')


def test_dsd_with_an_auxiliary_head():
    """The benchmark's list for networks that have one, see docs/distillation.md."""
    model = Config.fromfile(METHODS / 'dsd.py').model
    model.objectives.psd.taps[0] = 'auxiliary_head.conv_seg'
    distiller, _, losses = trained(model, with_auxiliary_head())
    taps = distiller.last_step['big', 'sup'].taps
    assert taps['auxiliary_head.conv_seg'].shape == taps['decode_head.conv_seg'].shape
    losses['psd.loss_sup'].backward()
    assert distiller.student.auxiliary_head.conv_seg.weight.grad.any()


def test_dsd_of_a_student_whose_teacher_alone_has_an_auxiliary_head():
    """The benchmark's list of the teacher, and the logits twice in that of the student."""
    model = Config.fromfile(METHODS / 'dsd.py').model
    psd = model.objectives.psd
    psd.teacher_taps = ['auxiliary_head.conv_seg', *psd.taps[1:]]
    distiller, _, losses = trained(model, tiny_segmentor(), with_auxiliary_head())
    taps = distiller.last_step['big', 'sup'].taps
    assert set(taps) == {'auxiliary_head.conv_seg', *psd.taps}
    losses['psd.loss_sup'].backward()
    found = distiller.student.decode_head.conv_seg.weight.grad
    assert found.any()
    assert found.isfinite().all()


@pytest.mark.parametrize('method', WEIGHTS)
def test_method_trains_a_segmentor(method):
    model = Config.fromfile(METHODS / f'{method}.py').model
    if method == 'fitnet':
        model.objectives.fitnet.connector.update(in_channels=16, out_channels=16)
    distiller, teacher, losses = trained(model, tiny_segmentor())
    weights = {
        name: objective.weight(0)
        for name, objective in distiller.objectives.items()
        if name != 'sup'
    }
    assert weights == WEIGHTS[method]
    assert {f'{name}.loss_sup' for name in weights} < set(losses)
    assert all(value.isfinite() and value > 0 for name, value in losses.items() if 'loss' in name)
    before = teacher.fingerprint()
    distiller.parse_losses(losses)[0].backward()
    assert distiller.student.backbone.conv1.weight.grad.any()
    assert teacher.fingerprint() == before
