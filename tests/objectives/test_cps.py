"""Cross pseudo supervision: who learns from whom."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from castkd.errors import ConfigError
from castkd.objectives import CrossPseudoSupervision
from castkd.objectives.pixels import agreement
from castkd.structures import PassResult, Step
from tests.builders import make_map_sample, tiny_segmentor
from tests.segmentation import CLASSES, make_distiller, run_step, semantic_batch

CPS = dict(type='castkd.CrossPseudoSupervision')
BOTH = dict(
    sup=dict(type='castkd.Supervised'),
    sup_second=dict(type='castkd.Supervised', network='second'),
)


def build(objectives):
    return make_distiller(peers=dict(second=tiny_segmentor(CLASSES)), objectives=objectives)


def images_of(height, width):
    return {
        'unsup_teacher': torch.zeros(2, 3, height, width),
        'unsup_mixed': torch.zeros(1, 3, height, width),
    }


@pytest.fixture
def step():
    """A step with logits at full size and a mask that takes the left half of the second image."""
    torch.manual_seed(0)
    step = Step(0, images_of(4, 4), {})
    for network in ('student', 'second'):
        for view, images in (('unsup_teacher', 2), ('unsup_mixed', 1)):
            logits = torch.randn(images, CLASSES, 4, 4, requires_grad=True)
            step.results[network, view] = PassResult(taps={'decode_head': logits})
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    step.carries['unsup_mixed'] = lambda maps: torch.where(mask, maps[1:], maps[:1])
    return step


def test_each_learns_the_mixed_labels_of_the_other(step):
    losses = CrossPseudoSupervision()(step)
    for name, learner, labeller in (
        ('loss_student', 'student', 'second'),
        ('loss_peer', 'second', 'student'),
    ):
        logits = step[labeller, 'unsup_teacher'].taps['decode_head']
        mixed = torch.cat([logits[1:, ..., :2], logits[:1, ..., 2:]], dim=-1)
        learned = step[learner, 'unsup_mixed'].taps['decode_head']
        expected = F.cross_entropy(learned, mixed.argmax(1))
        torch.testing.assert_close(losses[name], expected)
    assert 0 <= step.statistics['cps.agreement'] <= 1


def test_agreement_counts_what_is_not_ignored():
    first, second = torch.tensor([[[0, 1, 2, 255]]]), torch.tensor([[[0, 1, 0, 255]]])
    torch.testing.assert_close(agreement(first, second), torch.tensor(2 / 3))
    nothing = torch.full_like(first, 255)
    assert agreement(nothing, nothing) == 0


def test_masked_padding_teaches_nothing(step):
    """The second image has two rows; the mask pastes its left half."""
    step.samples['unsup_teacher'] = [
        make_map_sample(shape=shape, padding_size=(0, 0, 0, 4 - shape[0]))
        for shape in ((4, 4), (2, 4))
    ]
    losses = CrossPseudoSupervision(mask_padding=True)(step)
    found = step['second', 'unsup_teacher'].taps['decode_head'].argmax(1)
    labels = torch.cat([found[1:, ..., :2], found[:1, ..., 2:]], dim=-1)
    inside = torch.ones(1, 4, 4, dtype=torch.bool)
    inside[:, 2:, :2] = False
    learned = step['student', 'unsup_mixed'].taps['decode_head'].permute(0, 2, 3, 1)
    expected = F.cross_entropy(learned[inside], labels[inside])
    torch.testing.assert_close(losses['loss_student'], expected)
    other = step['student', 'unsup_teacher'].taps['decode_head'].argmax(1)
    other = torch.cat([other[1:, ..., :2], other[:1, ..., 2:]], dim=-1)
    same = (labels == other)[inside].float().mean()
    torch.testing.assert_close(step.statistics['cps.agreement'], same)


@pytest.mark.parametrize('aligned', ['student', 'second'])
def test_logits_are_resized_as_each_head_does(step, aligned):
    def network(name):
        head = nn.Module()
        head.align_corners = name == aligned
        return nn.ModuleDict({'decode_head': head})

    def full(logits, name):
        return F.interpolate(logits, (7, 9), mode='bilinear', align_corners=name == aligned)

    step.inputs.update(images_of(7, 9))
    # The mixed image is the first one.
    step.carries['unsup_mixed'] = lambda maps: maps[:1]
    objective = CrossPseudoSupervision()
    objective.bind({name: network(name) for name in ('student', 'second')}, {})
    losses = objective(step)
    labels = full(step['second', 'unsup_teacher'].taps['decode_head'], 'second').argmax(1)[:1]
    learned = full(step['student', 'unsup_mixed'].taps['decode_head'], 'student')
    torch.testing.assert_close(losses['loss_student'], F.cross_entropy(learned, labels))


def test_a_peer_of_other_classes_is_refused(step):
    for view, images in (('unsup_teacher', 2), ('unsup_mixed', 1)):
        logits = torch.zeros(images, CLASSES + 1, 4, 4)
        step.results['second', view] = PassResult(taps={'decode_head': logits})
    text = f"'second' has {CLASSES + 1} classes and the student {CLASSES}"
    with pytest.raises(ConfigError, match=text):
        CrossPseudoSupervision()(step)


def test_labels_carry_no_gradient(step):
    losses = CrossPseudoSupervision()(step)
    losses['loss_student'].backward()
    grads = {key: result.taps['decode_head'].grad for key, result in step.results.items()}
    assert grads['student', 'unsup_mixed'].any()
    assert all(grads[key] is None for key in grads if key != ('student', 'unsup_mixed'))


def test_each_network_runs_once_per_view():
    plan = build({**BOTH, 'cps': CPS}).plan()
    runs = {(item.network, item.view): (item.kind, item.grad) for item in plan}
    assert len(runs) == len(plan) == 6
    for network in ('student', 'second'):
        assert runs[network, 'sup'] == ('loss', True)
        assert runs[network, 'unsup_teacher'] == ('forward', False)
        assert runs[network, 'unsup_mixed'] == ('forward', True)


def test_a_step_trains_both():
    distiller = build({**BOTH, 'cps': {**CPS, 'weight': 5.0}})
    batch = semantic_batch(size=(33, 47))
    losses = run_step(distiller, batch)
    unweighted = run_step(build({**BOTH, 'cps': CPS}), batch)
    torch.testing.assert_close(losses['cps.loss_student'], 5 * unweighted['cps.loss_student'])
    assert losses['cps.loss_student'] != losses['cps.loss_peer']
    losses['cps.loss_peer'].backward()
    assert all(item.grad is not None for item in distiller.peers['second'].parameters())
    assert all(item.grad is None for item in distiller.student.parameters())


def test_without_cps_the_student_trains_as_alone():
    alone = make_distiller(objectives=dict(sup=BOTH['sup']))
    beside = build({**BOTH, 'cps': {**CPS, 'weight': 0.0}})
    beside.student.load_state_dict(alone.student.state_dict())
    expected, losses = (run_step(item, semantic_batch()) for item in (alone, beside))
    assert torch.equal(losses['sup.decode.loss_ce'], expected['sup.decode.loss_ce'])
    assert not any(name.startswith('cps') for name in losses)
