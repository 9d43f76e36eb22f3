"""SOLOv2's head taught with areas: mmdet's targets in all but the masks, and these to the pixel."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData

from castkd.registry import MODELS, build_model
from tests.builders import tiny_solov2

SIZE = (8, 12)


def head_of(area_targets):
    torch.manual_seed(0)
    return build_model(tiny_solov2(area_targets=area_targets)).mask_head


def truth_of(*boxes, size=(32, 48)):
    masks = np.zeros((len(boxes), *size), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.arange(len(boxes)) % 2,
        masks=BitmapMasks(masks, *size),
    )


def test_all_but_the_masks_is_mmdets():
    truth = truth_of((3, 5, 13, 15), (20, 2, 47, 31))
    wanted = head_of(False)._get_targets_single(truth, featmap_sizes=SIZE)
    found = head_of(True)._get_targets_single(truth, featmap_sizes=SIZE)
    for one, other in zip(wanted[1], found[1], strict=True):
        assert torch.equal(one, other)
    for one, other in zip(wanted[2], found[2], strict=True):
        assert torch.equal(one, other)
    assert wanted[3] == found[3]
    assert [level.shape for level in wanted[0]] == [level.shape for level in found[0]]
    assert sum(len(level) for level in found[0]) > 2


def test_a_target_is_the_covered_area():
    """A square of 10 x 10 pixels from (3, 5) covers a quarter to all of a feature pixel of 4 x 4."""
    levels = head_of(True)._get_targets_single(truth_of((3, 5, 13, 15)), featmap_sizes=SIZE)[0]
    targets = torch.cat(levels)
    assert len(targets)
    across = torch.tensor([1, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0]) / 4
    down = torch.tensor([0, 3, 4, 3, 0, 0, 0, 0]) / 4
    for target in targets:
        assert torch.equal(target, down[:, None] * across)
        assert target.sum() * 16 == 100


@pytest.mark.parametrize('boxes', [(), ((0, 0, 0, 0),)])
def test_nothing_to_teach(boxes):
    head = head_of(True)
    levels = head._get_targets_single(truth_of(*boxes), featmap_sizes=SIZE)[0]
    assert [level.shape for level in levels] == [(0, *SIZE)] * len(levels)
    assert head.mask_stride == 4


def test_an_image_that_ends_within_a_block():
    """Padding of the batch is no object; the last block of an image of 30 x 46 pixels is half empty."""
    truth = truth_of((40, 24, 46, 30), size=(30, 46))
    targets = torch.cat(head_of(True)._get_targets_single(truth, featmap_sizes=SIZE)[0])
    assert targets[0, 7, 11] == 0.25
    assert targets[0, 7, 10] == 0.5
    assert targets[0].sum() * 16 == 36


def test_loss_is_least_at_the_areas():
    head = head_of(True)
    target = torch.rand(1, 8, 12)
    logits = torch.logit(target, eps=1e-6).requires_grad_()
    loss = head.loss_mask(logits, target)
    assert loss.item() == pytest.approx(0, abs=1e-4)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.abs().max() < 1e-4


def test_predictions_are_mmdets():
    config = tiny_solov2(area_targets=True)
    plain = copy.deepcopy(config)
    plain['mask_head']['type'] = 'SOLOV2Head'
    ours, mmdets = build_model(config).eval(), build_model(plain).eval()
    mmdets.load_state_dict(ours.state_dict(), strict=True)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        (found,), (wanted,) = ours(images), mmdets(images)
    for one, other in zip(
        (*found[0], *found[1], found[2]), (*wanted[0], *wanted[1], wanted[2]), strict=True
    ):
        assert torch.equal(one, other)
    assert type(ours.mask_head) is MODELS.get('castkd.AreaSOLOV2Head')
