import math

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from castkd.errors import DataError
from castkd.evaluation import instance_ap


def instances(boxes, labels, scores=None, bitmap=False):
    masks = np.zeros((len(boxes), 40, 40), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    data = InstanceData(labels=torch.tensor(labels, dtype=torch.long))
    data.masks = BitmapMasks(masks, 40, 40) if bitmap else torch.from_numpy(masks).bool()
    if scores is not None:
        data.scores = torch.tensor(scores)
    return data


TRUTH = [(0, 0, 10, 10), (20, 20, 30, 30)]


def test_perfect_predictions(capfd):
    truth = instances(TRUTH, [0, 1], bitmap=True)
    result = instance_ap([instances(TRUTH, [0, 1], [0.9, 0.8])], [truth], num_classes=3)
    assert result == pytest.approx({'AP': 1.0, 'AP50': 1.0, 'AP75': 1.0})
    assert capfd.readouterr().out == ''


def test_half_of_the_classes_found():
    predictions = [instances(TRUTH[:1], [0], [0.9])]
    result = instance_ap(predictions, [instances(TRUTH, [0, 1])], num_classes=2)
    assert result == pytest.approx({'AP': 0.5, 'AP50': 0.5, 'AP75': 0.5})


def test_loose_mask_counts_at_low_overlap_only():
    # 10 x 10 inside 10 x 15: IoU 2/3, right at .50, .55, .60 and .65 of ten thresholds.
    result = instance_ap(
        [instances([(0, 0, 10, 15)], [0], [0.9])], [instances(TRUTH[:1], [0])], num_classes=1
    )
    assert result == pytest.approx({'AP': 0.4, 'AP50': 1.0, 'AP75': 0.0})


def test_wrong_prediction_with_a_better_score_costs():
    # Precision 1/2 at full recall.
    predictions = [instances([(30, 0, 40, 10), TRUTH[0]], [0, 0], [0.9, 0.5])]
    result = instance_ap(predictions, [instances(TRUTH[:1], [0])], num_classes=1)
    assert result['AP50'] == pytest.approx(0.5)


def test_predictions_on_another_image_do_not_help():
    empty = instances([], [], [])
    found = instances(TRUTH[:1], [0], [0.9])
    truth = [instances(TRUTH[:1], [0]), instances([], [])]
    assert instance_ap([empty, found], truth, num_classes=1)['AP50'] == 0.0
    assert instance_ap([found, empty], truth, num_classes=1)['AP50'] == pytest.approx(1.0)


def test_no_predictions_and_no_truth():
    assert instance_ap([instances([], [], [])], [instances(TRUTH, [0, 1])], 2)['AP'] == 0.0
    assert math.isnan(
        instance_ap([instances(TRUTH, [0, 1], [0.9, 0.9])], [instances([], [])], 2)['AP']
    )


def test_lengths_have_to_agree():
    with pytest.raises(DataError, match='1 images with predictions but 0'):
        instance_ap([instances([], [], [])], [], 2)


def test_boxes_are_compared_where_there_are_no_masks():
    """The loose box of above, on boxes; its mask would be another matter."""
    truth = instances(TRUTH[:1], [0])
    truth.bboxes = torch.tensor(TRUTH[:1], dtype=torch.float32)
    found = InstanceData(
        labels=torch.tensor([0]),
        scores=torch.tensor([0.9]),
        bboxes=torch.tensor([[0.0, 0.0, 10.0, 15.0]]),
    )
    result = instance_ap([found], [truth], num_classes=1, boxes=True)
    assert result == pytest.approx({'AP': 0.4, 'AP50': 1.0, 'AP75': 0.0})
