"""Precision and recall of pseudo-labels on labelled images."""

import json

import pytest

from castkd.errors import ConfigError
from castkd.hooks import PseudoLabelStatistics
from castkd.objectives import Supervised
from castkd.teachers import EMATeacher, Teacher
from tests.hooks.toy import SquareFinder, Squares, log_of, toy_distiller, toy_runner


def measured(tmp_path, distiller, interval=2, num_images=4, **options):
    hooks = [PseudoLabelStatistics(interval, num_images)]
    runner = toy_runner(tmp_path, distiller, hooks, max_iters=4, **options)
    warnings = log_of(runner)
    runner.train()
    (file,) = tmp_path.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    found = [line for line in lines if any('pseudo_' in key for key in line)]
    return found, [text for text in warnings if 'not measured' in text]


def numbers(step, precision, recall):
    values = {'pseudo_precision/expert': precision, 'pseudo_recall/expert': recall}
    return {**{key: value for key, value in values.items() if value is not None}, 'step': step}


@pytest.mark.parametrize('content', ['masks', 'late masks'])
def test_frozen_teacher_is_measured_once(tmp_path, content):
    val = Squares(False, content)
    assert measured(tmp_path, toy_distiller(), val=val) == ([numbers(1, 1.0, 1.0)], [])


def test_moving_teacher_is_measured_again(tmp_path):
    distiller = toy_distiller(teacher=EMATeacher(0.5, student=SquareFinder()))
    found, _ = measured(tmp_path, distiller)
    assert [line['step'] for line in found] == [1, 2, 4]


def test_wrong_labels_count_against_precision(tmp_path):
    # It takes the whole image for the object.
    distiller = toy_distiller(teacher=Teacher(SquareFinder(threshold=-100.0)))
    assert measured(tmp_path, distiller) == ([numbers(1, 0.0, 0.0)], [])


def test_rejected_labels_have_no_precision(tmp_path):
    assert measured(tmp_path, toy_distiller(score_thr=0.95)) == ([numbers(1, None, 0.0)], [])


def test_missing_masks_are_told_once(tmp_path):
    distiller = toy_distiller(teacher=EMATeacher(0.5, student=SquareFinder()))
    found, warnings = measured(tmp_path, distiller, val=Squares(False, 'boxes'))
    assert found == []
    assert len(warnings) == 1
    assert 'loads no masks' in warnings[0]


def test_without_labels_made_in_the_step_nothing_is_measured(tmp_path):
    distiller = toy_distiller(objectives={'sup': Supervised()})
    assert measured(tmp_path, distiller) == ([], [])


@pytest.mark.parametrize('options', [{'interval': 0}, {'num_images': 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        PseudoLabelStatistics(**options)
