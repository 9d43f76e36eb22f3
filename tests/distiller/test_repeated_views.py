"""A view can be run more than once in a step: ``sup#2`` is ``sup`` again."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from castkd.distiller import Distiller
from castkd.errors import ConfigError
from castkd.structures import source_view
from tests.builders import tiny_segmentor


def build(*views, dropout=0.5):
    student = tiny_segmentor()
    student['decode_head']['dropout_ratio'] = dropout
    objectives = {
        f'run{index}': dict(type='castkd.Supervised', view=view) for index, view in enumerate(views)
    }
    return Distiller(student=student, objectives=objectives)


def batch(size=64):
    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.randint(3, (1, size, size))))
    return {'sup': torch.randn(1, 3, size, size)}, {'sup': [sample]}


def test_source_of_a_view():
    assert source_view('sup#2') == source_view('sup') == 'sup'


def test_each_repetition_is_a_run_of_its_own():
    distiller = build('sup', 'sup#2')
    calls = []
    distiller.student.backbone.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0]))
    data = batch()
    losses = distiller(*data, mode='loss')
    assert len(calls) == 2
    assert torch.equal(calls[0], calls[1])
    assert losses['run0.decode.loss_ce'] != losses['run1.decode.loss_ce']
    assert set(distiller.last_step.inputs) == {'sup'}


def test_one_run_serves_all_that_name_the_same_repetition():
    assert [request.view for request in build('sup', 'sup#2', 'sup#2').plan()] == ['sup', 'sup#2']


def test_repetition_of_a_view_that_is_not_there():
    with pytest.raises(ConfigError, match=r"no view 'sub' that .* did you mean 'sup'\?"):
        build('sub#2')(*batch(), mode='loss')
