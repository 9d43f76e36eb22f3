"""The CAST objective: what it hands to the loss."""

import numpy as np
import pytest
import torch
from torch import nn

from castkd.objectives.cast import InstanceContrast, instance_ids, valid_pixels
from castkd.registry import build_model
from castkd.structures import PassResult, Step
from tests.builders import make_sample, square_masks

HEAD = dict(type='castkd.ProjectionHead', in_channels=6, hidden_channels=5, out_channels=4)


class Recorder(nn.Module):
    """Stands for the loss and keeps what it was given."""

    last_statistics = {'separation': torch.tensor(0.5)}

    def forward(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs
        return args[0].sum()


@pytest.fixture
def objective():
    torch.manual_seed(0)
    return InstanceContrast(HEAD, Recorder())


def result(images, size=(4, 4), queries=3, grad=True):
    return PassResult(
        taps={
            'backbone[3]': torch.randn(images, 6, *size, requires_grad=grad),
            'panoptic_head[0][-1]': torch.randn(images, queries, 3, requires_grad=grad),
            'panoptic_head[1][-1]': torch.randn(images, queries, 8, 8, requires_grad=grad),
        }
    )


def make_step(size=32, unlabelled_size=32):
    samples = {
        view: [make_sample(square_masks(side, [(0, 0, 8), (16, 16, 8)]), [0, 1])]
        for view, side in [('sup', size), ('unsup_teacher', unlabelled_size)]
    }
    samples['sup_strong'], samples['unsup_student'] = samples['sup'], samples['unsup_teacher']
    step = Step(3, {}, samples)
    for view in samples:
        side = size if view.startswith('sup') else unlabelled_size
        step.results['student', view] = result(1, (side // 8, side // 8), grad='strong' not in view)
    return step


def test_pool_is_all_weak_views_and_logits_are_detached(objective):
    step = make_step()
    loss = objective(step)['loss_pixel']
    anchor, positive, masks, classes = objective.loss.args
    assert anchor.shape == positive.shape == (2, 4, 4, 4)
    assert masks.shape == (2, 3, 8, 8)
    assert classes.shape == (2, 3, 3)
    assert anchor.requires_grad
    assert not any(value.requires_grad for value in (positive, masks, classes))
    assert objective.loss.kwargs['step'] == 3
    assert step.statistics['cast.separation'] == 0.5
    loss.backward()
    assert step.results['student', 'sup'].taps['backbone[3]'].grad.abs().sum() > 0


def test_shared_projector_gradient_is_the_weak_path_alone(objective):
    """The strong side is a fixed target."""
    loss = build_model(dict(type='castkd.InstancePixelContrast', num_negatives=None, cue='uniform'))
    objective.loss = loss
    step = make_step()
    objective(step)['loss_pixel'].backward()
    got = [parameter.grad.clone() for parameter in objective.projector.parameters()]
    objective.zero_grad()
    weak = [
        step.results['student', view].taps['backbone[3]'].detach() for view, _ in objective.views
    ]
    strong = [
        step.results['student', view].taps['backbone[3]'].detach() for _, view in objective.views
    ]
    fixed = objective.projector(torch.cat(strong)).detach()
    ids = objective.loss
    samples = step.samples['sup'] + step.samples['unsup_teacher']
    value = ids(
        objective.projector(torch.cat(weak)),
        fixed,
        torch.zeros(2, 3, 8, 8),
        torch.zeros(2, 3, 3),
        instance_ids=instance_ids(samples, (4, 4)),
    )
    value.backward()
    for expected, actual in zip(
        [parameter.grad for parameter in objective.projector.parameters()], got, strict=True
    ):
        torch.testing.assert_close(actual, expected)


def test_views_of_different_size_share_one_pool(objective):
    step = make_step(size=32, unlabelled_size=48)
    objective(step)
    anchor = objective.loss.args[0]
    valid = objective.loss.kwargs['valid']
    assert anchor.shape == (2, 4, 6, 6)
    assert valid[0].sum() == 16
    assert valid[1].all()


def test_padding_is_not_valid():
    sample = make_sample(np.zeros((0, 32, 64)), [], shape=(20, 64))
    valid = valid_pixels([sample], (8, 16))
    assert valid[0].sum(0).tolist() == [5] * 16


def test_instance_ids_smaller_on_top():
    masks = square_masks(32, [(8, 8, 8), (0, 0, 24)])
    ids = instance_ids([make_sample(masks, [0, 0])], (8, 8))[0]
    assert [ids[place].item() for place in ((3, 3), (0, 0), (7, 7))] == [0, 1, -1]
    assert (ids == 0).sum() == 4


def test_no_instances_means_no_ids():
    assert (instance_ids([make_sample(np.zeros((0, 32, 32)), [])], (4, 4)) == -1).all()


def test_passes_ask_for_the_strong_view_without_gradient(objective):
    strong = [request for request in objective.passes() if request.kind == 'encode']
    assert [request.view for request in strong] == ['sup_strong', 'unsup_student']
    assert not any(request.grad for request in strong)


def test_a_smaller_image_has_no_ids_in_its_padding():
    samples = [make_sample(np.ones((1, side, side)), [0]) for side in (32, 48)]
    small, large = instance_ids(samples, (6, 6))
    assert (small[:4, :4] == 0).all()
    assert (small == 0).sum() == 16
    assert (large == 0).all()
