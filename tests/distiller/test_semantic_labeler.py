"""Label maps are made where the teacher is sure, and carried between views."""

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from castkd.distiller import Distiller, SemanticPseudoLabeler
from castkd.errors import ConfigError
from castkd.semantic import IGNORE
from castkd.structures import PassResult
from castkd.teachers import Teacher
from tests.builders import make_map_sample, make_sample, tiny_segmentor


@pytest.fixture(scope='module')
def teacher():
    return Teacher(tiny_segmentor())


def predicted(view, labels, scores):
    sample = view.clone()
    sample.pred_sem_seg = PixelData(
        data=torch.tensor(labels)[None], scores=torch.tensor(scores)[None]
    )
    return PassResult(predictions=[sample])


def test_threshold_is_strict_and_padding_is_ignored(teacher):
    view = make_map_sample(np.zeros((2, 4)), shape=(2, 3))
    result = predicted(
        view, [[0, 1, 2, 1], [2, 2, 0, 1]], [[0.9, 0.5, 0.51, 0.9], [0.5, 0.7, 0.4, 0.9]]
    )
    batch = SemanticPseudoLabeler(0.5)(result, teacher, [view], [view])
    labels = batch.samples[0].gt_sem_seg.data
    assert labels.dtype == torch.long
    assert labels.tolist() == [[[0, IGNORE, 2, IGNORE], [IGNORE, 2, IGNORE, IGNORE]]]
    assert batch.statistics == {
        'candidates': 6.0,
        'accepted': 3.0,
        'kept': 3.0,
        'images_with_labels': 1.0,
        'max_score': pytest.approx(0.9),
        'mean_score': pytest.approx((0.9 + 0.5 + 0.51 + 0.5 + 0.7 + 0.4) / 6),
    }
    # The view's own labels are not touched.
    assert view.gt_sem_seg.data.unique().tolist() == [0]


def test_maps_follow_the_recorded_geometry(teacher):
    """A mirrored view of twice the width, cut on the right, with a padded row."""
    source = make_map_sample(shape=(2, 2))
    matrix = np.array([[-2, 0, 4], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    target = make_map_sample(shape=(2, 3), matrix=matrix, padding_size=(0, 1, 0, 1))
    result = predicted(source, [[0, 1], [2, 1]], [[0.9, 0.9], [0.9, 0.1]])
    batch = SemanticPseudoLabeler(0.5)(result, teacher, [source], [target])
    expected = [[1, 1, 0, IGNORE], [IGNORE, IGNORE, 2, IGNORE], [IGNORE] * 4]
    assert batch.samples[0].gt_sem_seg.data[0].tolist() == expected
    assert batch.statistics['accepted'] == 3
    assert batch.statistics['kept'] == 4


def test_an_unsure_teacher_gives_no_label(teacher):
    view = make_map_sample(shape=(1, 2))
    batch = SemanticPseudoLabeler(0.9)(
        predicted(view, [[0, 1]], [[0.5, 0.6]]), teacher, [view], [view]
    )
    assert batch.samples[0].gt_sem_seg.data.unique().tolist() == [IGNORE]
    assert batch.statistics['images_with_labels'] == 0


def test_a_detector_is_refused(teacher):
    view = make_sample(np.zeros((0, 4, 4)), [])
    with pytest.raises(ConfigError, match=r"teacher 'Teacher' predicts no label maps"):
        SemanticPseudoLabeler()(PassResult(predictions=[view]), teacher, [view], [view])


def test_threshold_is_a_probability():
    with pytest.raises(ConfigError, match='score_thr must be a number in'):
        SemanticPseudoLabeler(1.5)


@pytest.fixture
def distiller():
    torch.manual_seed(0)
    return Distiller(
        tiny_segmentor(),
        teachers={'ema': dict(type='castkd.EMATeacher')},
        pseudo_labeler=dict(type='castkd.SemanticPseudoLabeler', score_thr=0.34),
        objectives={
            'sup': dict(type='castkd.Supervised'),
            'unsup': dict(type='castkd.PseudoLabel', teacher='ema'),
        },
    )


def views(labelled=2, size=(37, 50)):
    torch.manual_seed(1)
    image = torch.randn(2, 3, *size)
    inputs = {'sup': image, 'unsup_teacher': image, 'unsup_student': image + 0.1}
    maps = [make_map_sample(torch.randint(0, 3, size)) for _ in range(labelled)]
    samples = {'sup': maps}
    for view in ('unsup_teacher', 'unsup_student'):
        samples[view] = [make_map_sample(shape=size) for _ in range(2)]
    return inputs, samples


def test_a_step_of_a_segmentor_with_a_teacher(distiller):
    """Odd sizes; the student learns from both losses, the teacher is left alone."""
    distiller.init_weights()
    distiller.train()
    teacher = distiller.teachers['ema']
    # Random weights are sure of nothing; a bias lets the teacher have opinions.
    teacher.model.decode_head.conv_seg.bias.data = torch.tensor([0.3, 0.0, 0.0])
    distiller.set_step(1)
    losses = distiller(*views(), mode='loss')
    total, log = distiller.parse_losses(losses)
    assert {'sup.decode.loss_ce', 'unsup.decode.loss_ce', 'pseudo.accepted'} <= set(log)
    assert log['pseudo.accepted'] > 0
    assert log['unsup.decode.loss_ce'] > 0
    total.backward()
    assert distiller.student.backbone.conv1.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_a_step_without_any_sure_pixel_is_finite(distiller):
    distiller.init_weights()
    distiller.train()
    distiller.pseudo_labeler.score_thr = 1.0
    total, log = distiller.parse_losses(distiller(*views(), mode='loss'))
    assert log['unsup.decode.loss_ce'] == 0
    assert torch.isfinite(total)
    total.backward()
