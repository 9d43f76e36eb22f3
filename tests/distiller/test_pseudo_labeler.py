"""Pseudo-labels are filtered and carried between views."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from castkd.distiller import InstancePseudoLabeler, QueryPseudoLabeler
from castkd.distiller.pseudo_labeler import carry_instances
from castkd.errors import ConfigError
from castkd.structures import PassResult
from castkd.teachers import Teacher
from tests.builders import make_sample, square_masks, tiny_mask2former


@pytest.fixture(scope='module')
def teacher():
    return Teacher(tiny_mask2former())


def flip_matrix(width):
    return np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], dtype=np.float32)


def predictions(scores):
    masks = (
        torch.from_numpy(square_masks(32, [(2 * index, 1, 6) for index in range(len(scores))])) > 0
    )
    instances = InstanceData(
        scores=torch.tensor(scores), labels=torch.zeros(len(scores), dtype=torch.long), masks=masks
    )
    sample = make_sample(np.zeros((0, 32, 32)), [])
    sample.pred_instances = instances
    return sample


@pytest.mark.parametrize('scores', [(0.9, 0.31, 0.30, 0.1), (0.1, 0.30, 0.9, 0.31)])
def test_threshold_is_strict_and_order_free(teacher, scores):
    sample = predictions(scores)
    view = make_sample(np.zeros((0, 32, 32)), [])
    labeler = InstancePseudoLabeler(score_thr=0.3)
    batch = labeler(PassResult(predictions=[sample]), teacher, [view], [view])
    kept = batch.samples[0].gt_instances
    torch.testing.assert_close(kept.scores, torch.tensor([0.9, 0.31]))
    assert batch.statistics == {
        'candidates': 4.0,
        'accepted': 2.0,
        'kept': 2.0,
        'images_with_labels': 1.0,
        'max_score': pytest.approx(0.9),
    }


def test_no_detection_gives_an_empty_list_of_the_right_size(teacher):
    view = make_sample(np.zeros((0, 32, 48)), [])
    sample = predictions(())
    sample.pred_instances.masks = torch.zeros(0, 32, 48, dtype=torch.bool)
    batch = InstancePseudoLabeler()(PassResult(predictions=[sample]), teacher, [view], [view])
    instances = batch.samples[0].gt_instances
    assert len(instances) == 0
    assert (instances.masks.height, instances.masks.width) == (32, 48)
    assert batch.statistics['images_with_labels'] == 0.0


def test_at_most_the_best(teacher):
    view = make_sample(np.zeros((0, 32, 32)), [])
    sample = predictions((0.5, 0.9, 0.7))
    batch = InstancePseudoLabeler(max_per_image=2)(
        PassResult(predictions=[sample]), teacher, [view], [view]
    )
    torch.testing.assert_close(batch.samples[0].gt_instances.scores, torch.tensor([0.9, 0.7]))


def overlapping():
    """Return predictions of rows 0-3, 2-5 and 5-8, best first."""
    sample = predictions((0.9, 0.8, 0.7))
    masks = torch.zeros(3, 32, 32, dtype=torch.bool)
    for mask, (first, last) in zip(masks, ((0, 3), (2, 5), (5, 8)), strict=True):
        mask[first : last + 1] = True
    sample.pred_instances.masks = masks
    return sample


@pytest.mark.parametrize(
    ('options', 'rows'),
    [
        ({}, {0.9: (0, 3), 0.8: (2, 5), 0.7: (5, 8)}),
        ({'overlap': 'score'}, {0.9: (0, 3), 0.8: (4, 5), 0.7: (6, 8)}),
        ({'overlap': 'score', 'min_kept': 0.8}, {0.9: (0, 3), 0.7: (5, 8)}),
    ],
)
def test_overlaps_are_settled_on_demand(teacher, options, rows):
    view = make_sample(np.zeros((0, 32, 32)), [])
    sample = overlapping()
    before = sample.pred_instances.masks.clone()
    result = PassResult(predictions=[sample])
    batch = InstancePseudoLabeler(**options)(result, teacher, [view], [view])
    kept = batch.samples[0].gt_instances
    torch.testing.assert_close(kept.scores, torch.tensor(list(rows)))
    filled = [np.flatnonzero(mask.all(axis=1)) for mask in kept.masks.masks]
    assert [(found[0], found[-1]) for found in filled] == list(rows.values())
    assert [mask.sum() for mask in kept.masks.masks] == [len(found) * 32 for found in filled]
    assert batch.statistics['accepted'] == len(rows)
    assert torch.equal(sample.pred_instances.masks, before)


def test_mask_scores_have_a_threshold_of_their_own(teacher):
    view = make_sample(np.zeros((0, 32, 32)), [])
    sample = predictions((0.9, 0.8))
    sample.pred_instances.mask_scores = torch.tensor([0.4, 0.6])
    labeler = InstancePseudoLabeler(mask_score_thr=0.5)
    batch = labeler(PassResult(predictions=[sample]), teacher, [view], [view])
    torch.testing.assert_close(batch.samples[0].gt_instances.scores, torch.tensor([0.8]))


def test_boxes_alone_have_no_overlaps_to_settle(teacher):
    view = make_sample(np.zeros((0, 32, 32)), [])
    sample = make_sample(np.zeros((0, 32, 32)), [])
    sample.pred_instances = InstanceData(
        scores=torch.tensor([0.2, 0.9]),
        labels=torch.tensor([0, 1]),
        bboxes=torch.tensor([[0.0, 0, 4, 4], [2.0, 3, 12, 9]]),
    )
    result = PassResult(predictions=[sample])
    batch = InstancePseudoLabeler()(result, teacher, [view], [view])
    assert batch.samples[0].gt_instances.bboxes.tolist() == [[2.0, 3.0, 12.0, 9.0]]
    with pytest.raises(ConfigError, match=r"overlap='area' needs masks, and teacher .* boxes only"):
        InstancePseudoLabeler(overlap='area')(result, teacher, [view], [view])


def test_guided_distillation_filter(teacher):
    """Class no-object, low probability and small soft area are left out."""
    cls_logits = torch.tensor([[[3.0, 0, 0], [0.5, 0, 0], [0, 0, 4.0], [0, 3.0, 0]]])
    mask_logits = torch.full((1, 4, 8, 8), -30.0)
    mask_logits[0, :3, :3, :3] = 30.0
    mask_logits[0, 3].view(-1)[:5] = torch.logit(torch.tensor(4.9 / 5))
    labeler = QueryPseudoLabeler(score_thr=0.7, min_soft_area=5.0)
    view = make_sample(np.zeros((0, 32, 32)), [])
    result = PassResult(taps=dict(zip(labeler.taps, (cls_logits, mask_logits), strict=True)))
    batch = labeler(result, teacher, [view], [view])
    instances = batch.samples[0].gt_instances
    assert instances.labels.tolist() == [0]
    assert instances.scores.item() == pytest.approx(0.909, abs=1e-3)
    assert batch.statistics['candidates'] == 3.0


def test_flip_carries_masks_and_boxes():
    """L12."""
    masks = square_masks(16, [(2, 3, 4)])
    source = make_sample(masks, [0])
    target = make_sample(np.zeros((0, 16, 16)), [], matrix=flip_matrix(16))
    instances = InstanceData(
        labels=torch.tensor([1]), scores=torch.tensor([0.5]), masks=torch.from_numpy(masks) > 0
    )
    carried = carry_instances(instances, source, target)
    assert np.array_equal(carried.masks.masks[0], masks[0][:, ::-1])
    assert carried.bboxes.tolist() == [[9.0, 2.0, 13.0, 6.0]]
    assert carried.labels.tolist() == [1]


def test_crop_drops_what_is_outside_and_padding_stays_empty():
    masks = square_masks(32, [(2, 3, 4), (12, 12, 14)])
    shift = np.array([[1, 0, -10], [0, 1, -10], [0, 0, 1]], dtype=np.float32)
    source = make_sample(masks, [0, 0])
    target = make_sample(np.zeros((0, 24, 24)), [], shape=(12, 12), matrix=shift)
    instances = InstanceData(
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([0.5, 0.6]),
        masks=torch.from_numpy(masks) > 0,
    )
    carried = carry_instances(instances, source, target)
    assert carried.labels.tolist() == [1]
    assert carried.masks.masks.shape == (1, 24, 24)
    assert carried.masks.masks[0, 12:].sum() == 0
    assert carried.masks.masks[0, 2:12, 2:12].all()


def test_boxes_of_a_detector_without_masks_are_carried_and_clipped():
    shift = np.array([[1, 0, -10], [0, 1, -10], [0, 0, 1]], dtype=np.float32)
    source = make_sample(np.zeros((0, 32, 32)), [])
    target = make_sample(np.zeros((0, 24, 24)), [], shape=(12, 12), matrix=shift)
    instances = InstanceData(
        labels=torch.tensor([0, 1, 1]),
        scores=torch.tensor([0.5, 0.6, 0.7]),
        bboxes=torch.tensor([[3.0, 2, 7, 6], [12, 12, 26, 18], [10, 10, 11, 10.5]]),
    )
    carried = carry_instances(instances, source, target)
    assert carried.bboxes.tolist() == [[2.0, 2.0, 12.0, 8.0]]
    assert carried.labels.tolist() == [1]
    assert carried.scores.tolist() == pytest.approx([0.6])
    assert 'masks' not in carried
