import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from castkd.evaluation import class_map_iou, instance_f1


def instances(*spans, labels=None):
    """Return instances that cover columns [start, end) of one row of 20 pixels."""
    masks = np.zeros((len(spans), 1, 20), bool)
    for mask, (start, end) in zip(masks, spans, strict=True):
        mask[:, start:end] = True
    count = len(spans)
    return InstanceData(
        masks=masks, labels=np.array(labels or [0] * count), scores=np.linspace(0.9, 0.5, count)
    )


def test_a_perfect_prediction_is_one_and_a_missing_or_false_one_zero():
    truth = instances((0, 5), (10, 15))
    assert instance_f1(truth, truth) == 1.0
    assert instance_f1(instances(), truth) == 0.0
    assert instance_f1(truth, instances()) == 0.0
    assert instance_f1(instances(), instances()) is None


def test_f1_is_averaged_over_ten_overlaps():
    # Intersection 6 of 10: a match at 0.50, 0.55 and 0.60; there 2 * 1 / (2 + 1), elsewhere 0.
    predicted = instances((0, 6), (15, 20))
    assert instance_f1(predicted, instances((0, 10))) == pytest.approx(0.3 * 2 / 3)


def test_a_wrong_class_is_no_match():
    assert instance_f1(instances((0, 5), labels=[1]), instances((0, 5))) == 0.0


def test_class_maps_are_judged_by_the_classes_that_occur():
    truth = np.array([[0, 0, 1, 1, 255]])
    predicted = np.array([[0, 1, 1, 1, 7]])
    # Class 0: 1 of 2, class 1: 2 of 3; class 7 lies on an ignored pixel.
    assert class_map_iou(predicted, truth) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert class_map_iou(predicted, np.full((1, 5), 255)) is None


def test_boxes_are_compared_where_one_side_has_no_masks():
    truth = instances((0, 10), labels=[0])
    truth.bboxes = torch.tensor([[0.0, 0.0, 10.0, 1.0]])
    predicted = InstanceData(
        # The first covers 6.2 of 10 columns: a match at 0.50, 0.55 and 0.60.
        bboxes=torch.tensor([[0.0, 0.0, 6.2, 1.0], [15.0, 0.0, 20.0, 1.0]]),
        labels=torch.tensor([0, 0]),
        scores=torch.tensor([0.9, 0.8]),
    )
    assert instance_f1(predicted, truth) == pytest.approx(0.3 * 2 / 3)
    assert instance_f1(predicted[:0], truth) == 0.0
    assert instance_f1(predicted, truth[:0]) == 0.0
