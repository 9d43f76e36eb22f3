"""The set loss that CAST builds on is mmdet's; these are the properties that CAST relies on."""

import numpy as np
import pytest
import torch

from castkd.registry import build_model
from tests.builders import make_sample, square_masks, tiny_mask2former

SQUARES = [(4, 4, 20), (30, 28, 24), (2, 40, 12)]
LABELS = [0, 1, 1]


@pytest.fixture(scope='module')
def head():
    torch.manual_seed(0)
    network = build_model(tiny_mask2former())
    return network.panoptic_head


def set_loss(head, cls_scores, mask_preds, sample):
    targets = head.preprocess_gt([sample.gt_instances], [None])
    torch.manual_seed(0)
    losses = head.loss_by_feat(cls_scores, mask_preds, targets, [sample.metainfo])
    return {name: value for name, value in losses.items() if not name.startswith('d')}


def perfect(queries=6, size=64):
    """Class and mask logits of +-20 that say exactly what is there."""
    masks = torch.from_numpy(square_masks(size, SQUARES)).float()
    mask_preds = torch.full((1, queries, size, size), -20.0)
    cls_scores = torch.full((1, queries, 3), -20.0)
    cls_scores[0, :, 2] = 20.0
    for query, (mask, label) in enumerate(zip(masks, LABELS, strict=True)):
        mask_preds[0, query] = 40 * mask - 20
        cls_scores[0, query] = -20.0
        cls_scores[0, query, label] = 20.0
    return [cls_scores], [mask_preds]


def sample_of(order):
    return make_sample(square_masks(64, [SQUARES[i] for i in order]), [LABELS[i] for i in order])


def test_perfect_prediction_costs_next_to_nothing(head):
    losses = set_loss(head, *perfect(), sample_of([0, 1, 2]))
    assert losses['loss_cls'] < 1e-6
    # Points between a mask and its surroundings interpolate; everything else is exact.
    assert losses['loss_mask'] < 3.0
    assert losses['loss_dice'] < 0.5
    wrong = [-masks for masks in perfect()[1]]
    assert set_loss(head, perfect()[0], wrong, sample_of([0, 1, 2]))['loss_mask'] > 50


@pytest.mark.parametrize('order', [[2, 0, 1], [1, 2, 0]])
def test_order_of_targets_does_not_matter(head, order):
    cls_scores, mask_preds = perfect()
    expected = set_loss(head, cls_scores, mask_preds, sample_of([0, 1, 2]))['loss_cls']
    torch.testing.assert_close(
        set_loss(head, cls_scores, mask_preds, sample_of(order))['loss_cls'], expected
    )


def test_order_of_queries_does_not_matter(head):
    torch.manual_seed(3)
    cls_scores = [torch.randn(1, 6, 3)]
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    masks = perfect()[1]
    expected = set_loss(head, cls_scores, masks, sample_of([0, 1, 2]))
    permuted = set_loss(head, [cls_scores[0][:, order]], [masks[0][:, order]], sample_of([0, 1, 2]))
    torch.testing.assert_close(permuted['loss_cls'], expected['loss_cls'])


def test_no_target_is_no_object_for_every_query(head):
    """The no-object weight 0.1 cancels in the weighted mean."""
    torch.manual_seed(0)
    cls_scores = torch.randn(1, 6, 3)
    losses = set_loss(
        head, [cls_scores], [torch.randn(1, 6, 16, 16)], make_sample(np.zeros((0, 64, 64)), [])
    )
    expected = -2 * cls_scores[0].log_softmax(-1)[:, 2].mean()
    torch.testing.assert_close(losses['loss_cls'], expected)
    assert losses['loss_mask'] == 0
    assert losses['loss_dice'] == 0
