"""Values of GID's response as a whole, from what mmdet's own methods say of the instances of a step."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_overlaps

from castkd.adapters import adapter_for
from castkd.heads import rois_of
from tests.builders import make_batch
from tests.objectives.test_gid import (
    NO_PART,
    make_distiller,
    own,
    teacher_file,  # noqa: F401 - a fixture
)

WEIGHTS = dict(class_weight=0.5, box_weight=3.0)


def step(teacher, name, **options):
    """Return a distiller in eval mode after a step, its losses, and images and samples."""
    options = {**NO_PART, **WEIGHTS, **options}
    distiller = make_distiller(teacher, name, supervised=False, **options).eval()
    inputs, samples = make_batch(['sup'])
    losses = own(distiller(inputs, samples, mode='loss'))
    return distiller, losses, inputs['sup'], samples['sup']


def flat(levels, size):
    """Return maps (B, A size, h, w) of all levels as (B, R, size)."""
    return torch.cat(
        [level.permute(0, 2, 3, 1).reshape(len(level), -1, size) for level in levels], dim=1
    )


def test_dense_response_of_a_retinanet(teacher_file):  # noqa: F811
    distiller, losses, images, samples = step(teacher_file(), 'retinanet')
    networks = distiller.teachers['big'].model, distiller.student
    with torch.no_grad():
        outputs = [adapter_for(network).dense(network, images, samples) for network in networks]
    head = distiller.student.bbox_head
    sizes = [level.shape[-2:] for level in outputs[0][0]]
    anchors = torch.cat(head.prior_generator.grid_priors(sizes, device='cpu'))
    found = distiller.objectives['gid'].last_instances['sup']
    chosen = []
    for item in found:
        overlaps = bbox_overlaps(item.boxes, anchors)
        best = overlaps.max(dim=1, keepdim=True).values
        # RetinaNet's rule: 0.5 with any object, or the best for one.
        chosen.append(((overlaps >= 0.5) | ((overlaps == best) & (best > 0))).any(dim=0))
    chosen = torch.stack(chosen)
    assert 0 < chosen.sum() < chosen.numel() / 2
    (scores_t, deltas_t), (scores_s, deltas_s) = (
        (flat(scores, 2)[chosen], flat(deltas, 4)[chosen]) for scores, deltas in outputs
    )
    cross_entropy = F.binary_cross_entropy_with_logits(
        scores_s, scores_t.sigmoid(), reduction='sum'
    )
    torch.testing.assert_close(losses['loss_cls'].detach(), 0.5 * cross_entropy / chosen.sum())
    distance = (deltas_s - deltas_t).abs().sum(dim=1).mean()
    torch.testing.assert_close(losses['loss_reg'].detach(), 3 * distance)


@pytest.mark.parametrize('name', ['faster_rcnn', 'mask_rcnn'])
def test_region_response(name, teacher_file):  # noqa: F811
    options = dict(proposals=False, mask_weight=2.0 * (name == 'mask_rcnn'))
    distiller, losses, images, _ = step(teacher_file(name), name, **options)
    rois = rois_of([item.boxes for item in distiller.objectives['gid'].last_instances['sup']])
    with torch.no_grad():
        teacher, student = (
            (network.roi_head, network.extract_feat(images))
            for network in (distiller.teachers['big'].model, distiller.student)
        )
        theirs, ours = (head._bbox_forward(maps, rois) for head, maps in (teacher, student))
        target = theirs['cls_score'].softmax(dim=1)
        divergence = F.kl_div(ours['cls_score'].log_softmax(dim=1), target, reduction='batchmean')
        torch.testing.assert_close(losses['loss_roi_cls'], 0.5 * divergence)
        objects, classes = 1 - target[:, -1], target[:, :-1].argmax(dim=1)
        rows = torch.arange(len(rois))
        deltas = [
            answer['bbox_pred'].reshape(len(rois), -1, 4)[rows, classes]
            for answer in (ours, theirs)
        ]
        distance = (deltas[0] - deltas[1]).abs().sum(dim=1)
        torch.testing.assert_close(losses['loss_roi_reg'], 3 * (objects * distance).mean())
        assert ('loss_mask' in losses) == (name == 'mask_rcnn')
        if name == 'faster_rcnn':
            return
        drawn, target = (
            head._mask_forward(maps, rois)['mask_preds'][rows, classes]
            for head, maps in (student, teacher)
        )
        each = F.binary_cross_entropy_with_logits(drawn, target.sigmoid(), reduction='none')
        weight = objects * (objects >= 0.3)
        expected = 2 * (weight * each.mean(dim=(1, 2))).sum() / weight.sum().clamp(min=1)
        assert expected > 0
        torch.testing.assert_close(losses['loss_mask'], expected)
