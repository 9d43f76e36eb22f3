"""Derived views and peers in the distiller."""

import pytest
import torch

from castkd.checkpoints import student_state
from castkd.distiller import DerivedView, Distiller
from castkd.distiller.views import Derived, check_views
from castkd.errors import ConfigError
from castkd.objectives import Objective
from castkd.structures import Pass, PseudoTargets
from tests.builders import tiny_segmentor
from tests.segmentation import CUTMIX, make_distiller, run_step, semantic_batch


class Negative(DerivedView):
    """The source with the other sign; counts how often it was made."""

    made = 0

    def __call__(self, inputs, samples):
        self.made += 1
        return Derived(-inputs, samples, lambda maps: -maps)


class Reads(Objective):
    """Runs the student on some views and keeps the step."""

    def __init__(self, *views, targets=None, network='student'):
        super().__init__(1.0)
        self.requests = [Pass(network, view, 'forward', targets=targets) for view in views]

    def passes(self):
        return self.requests

    def forward(self, step):
        self.step = step
        return {'loss_sum': sum(result.outputs.sum() for result in step.results.values())}


def build(*objectives, **options):
    options.setdefault('views', dict(negative=Negative('sup')))
    named = {f'o{index}': objective for index, objective in enumerate(objectives)}
    return Distiller(tiny_segmentor(), objectives=named, **options)


class TestViews:
    def test_made_once_per_step_and_kept_beside_the_others(self):
        reads = Reads('negative')
        distiller = build(reads, Reads('negative', 'negative#2'))
        inputs, samples = semantic_batch()
        distiller(inputs, samples, mode='loss')
        view = distiller.views['negative']
        assert view.made == 1
        assert torch.equal(reads.step.inputs['negative'], -inputs['sup'])
        assert reads.step.carry(torch.ones(2), 'negative').tolist() == [-1, -1]
        assert 'negative' not in inputs
        distiller(inputs, samples, mode='loss')
        assert view.made == 2

    def test_not_made_when_nobody_asks(self):
        distiller = build(Reads('sup'))
        distiller(*semantic_batch(), mode='loss')
        assert distiller.views['negative'].made == 0

    def test_views_of_the_batch_that_any_step_reads(self):
        """Derived ones are traced to theirs, repeated ones and sources of labels are views like others."""
        views = dict(negative=Negative('sup'), double=Negative('negative'), idle=Negative('other'))
        assert build(Reads('double'), views=views).batch_views() == {'sup'}
        late = Reads('unsup#2')
        late.weight = lambda step: float(step > 5)
        assert build(Reads('negative'), late).batch_views() == {'sup', 'unsup'}

    def test_a_view_of_a_derived_view(self):
        views = dict(twice=Negative('negative'), negative=Negative('sup'))
        reads = Reads('twice')
        inputs, samples = semantic_batch()
        build(reads, views=views)(inputs, samples, mode='loss')
        assert torch.equal(reads.step.inputs['twice'], inputs['sup'])

    def test_a_circle_is_refused(self):
        views = dict(a=Negative('b'), b=Negative('a'))
        with pytest.raises(ConfigError, match='a is made from b is made from a'):
            check_views(views)
        with pytest.raises(ConfigError, match='begin with a view of the batch'):
            build(Reads('a'), views=dict(a=Negative('a')))

    def test_a_source_that_is_missing_is_named(self):
        distiller = build(Reads('negative'), views=dict(negative=Negative('supp')))
        with pytest.raises(ConfigError, match=r"no view 'supp'.*did you mean 'sup'"):
            distiller(*semantic_batch(), mode='loss')

    def test_a_name_of_the_batch_is_refused(self):
        distiller = build(Reads('sup'), views=dict(sup=Negative('unsup_teacher')))
        with pytest.raises(ConfigError, match="'sup' is derived, but the batch has a view"):
            distiller(*semantic_batch(), mode='loss')

    def test_pseudo_labels_cannot_be_carried_into_it(self):
        request = PseudoTargets('student', 'sup')
        labeler = type(
            'Labeler', (), {'request': lambda self, targets: Pass('student', 'sup', 'forward')}
        )
        with pytest.raises(ConfigError, match="'negative' is made in the step and has no geometry"):
            build(Reads('negative', targets=request), pseudo_labeler=labeler())

    def test_carrying_into_a_plain_view_is_refused(self):
        reads = Reads('negative')
        build(reads)(*semantic_batch(), mode='loss')
        with pytest.raises(ConfigError, match=r"'sup' is not derived .*known: 'negative'"):
            reads.step.carry(torch.ones(1), 'sup')


class TestPeers:
    OBJECTIVES = dict(
        sup=dict(type='castkd.Supervised'),
        sup_second=dict(type='castkd.Supervised', network='second'),
    )

    def distiller(self, **options):
        options = {'peers': dict(second=tiny_segmentor()), 'objectives': self.OBJECTIVES, **options}
        return make_distiller(**options)

    def test_first_weights_are_its_own(self):
        distiller = self.distiller()
        student, peer = distiller.student.decode_head, distiller.peers['second'].decode_head
        assert not torch.equal(student.conv_seg.weight, peer.conv_seg.weight)
        # mmseg draws the classifier with this deviation: the weights are initialised, not torch's default.
        assert peer.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.4)

    def test_it_trains_beside_the_student(self):
        distiller = self.distiller()
        losses = run_step(distiller, semantic_batch())
        assert losses['sup.decode.loss_ce'] != losses['sup_second.decode.loss_ce']
        losses['sup_second.decode.loss_ce'].backward()
        assert all(item.grad is not None for item in distiller.peers['second'].parameters())
        assert all(item.grad is None for item in distiller.student.parameters())
        assert distiller.last_step.results == {}

    def test_it_is_in_the_checkpoint_and_not_handed_over(self):
        distiller = self.distiller()
        state = distiller.state_dict()
        assert 'peers.second.decode_head.conv_seg.weight' in state
        assert set(student_state({'state_dict': state})) == set(distiller.student.state_dict())

    def test_it_is_no_teacher_of_the_plan(self):
        plan = [(item.network, item.view, item.kind) for item in self.distiller().plan()]
        assert plan == [('student', 'sup', 'loss'), ('second', 'sup', 'loss')]

    def test_without_part_in_the_step_it_adds_zero_for_distributed_runs(self):
        objectives = {**self.OBJECTIVES}
        objectives['sup_second'] = {**objectives['sup_second'], 'weight': 0.0}
        distiller = self.distiller(objectives=objectives)
        distiller._idle_parameters(0).backward()
        grads = [item.grad for item in distiller.peers['second'].parameters()]
        assert all(grad is not None and not grad.any() for grad in grads)
        assert not torch.is_tensor(self.distiller()._idle_parameters(0))

    def test_a_name_twice_is_refused(self):
        with pytest.raises(ConfigError, match="two networks are called 'student'"):
            self.distiller(peers=dict(student=tiny_segmentor()))


def test_cutmix_in_a_step():
    reads = Reads('unsup_mixed')
    batch = semantic_batch()
    run_step(make_distiller(objectives=dict(reads=reads)), batch)
    first = reads.step.inputs['unsup_mixed']
    assert first.shape == (2, 3, 32, 32)
    run_step(make_distiller(objectives=dict(reads=reads)), batch)
    assert torch.equal(first, reads.step.inputs['unsup_mixed'])
    run_step(make_distiller(objectives=dict(reads=reads)), batch, seed=8)
    assert not torch.equal(first, reads.step.inputs['unsup_mixed'])
    assert set(CUTMIX) == {'unsup_mixed'}
