"""The training step: plan, routing, state and teachers."""

import copy

import pytest
import torch
from torch import nn

from castkd.distiller import Distiller
from castkd.errors import ConfigError, TrainingError
from castkd.objectives import Objective
from castkd.registry import build_model
from castkd.structures import Pass
from tests.builders import make_batch, tiny_mask2former

VIEWS = ['sup', 'sup_strong', 'unsup_teacher', 'unsup_student']
CAST = dict(
    type='castkd.InstanceContrast',
    projector=dict(
        type='castkd.ProjectionHead', in_channels=16, hidden_channels=12, out_channels=8
    ),
    loss=dict(type='castkd.InstancePixelContrast', num_negatives=16),
    feature='backbone[1]',
)
OBJECTIVES = dict(
    sup=dict(type='castkd.Supervised'),
    unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher'),
    cast=CAST,
)


def build(objectives=None, seed=0, **options):
    torch.manual_seed(seed)
    distiller = Distiller(
        student=options.pop('student', tiny_mask2former()),
        objectives=copy.deepcopy(OBJECTIVES if objectives is None else objectives),
        **options,
    )
    distiller.init_weights()
    return distiller


def total(losses):
    return sum(
        value if torch.is_tensor(value) else sum(value)
        for name, value in losses.items()
        if 'loss' in name
    )


def gradient_norms(module):
    return {
        name: parameter.grad.abs().sum().item()
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


@pytest.fixture
def teacher_file(tmp_path):
    torch.manual_seed(5)
    network = build_model(tiny_mask2former())
    network.init_weights()
    torch.save({'state_dict': network.state_dict(), 'meta': {}}, tmp_path / 'teacher.pth')
    return str(tmp_path / 'teacher.pth')


def frozen(file):
    return dict(type='castkd.FrozenTeacher', model=tiny_mask2former(), checkpoint=file)


class TestPlan:
    def test_each_network_once_per_view(self):
        plan = build().plan()
        keys = [(request.network, request.view) for request in plan]
        assert len(keys) == len(set(keys)) == 4
        kinds = {request.view: (request.kind, request.grad) for request in plan}
        assert kinds == {
            'sup': ('loss', True),
            'sup_strong': ('encode', False),
            'unsup_teacher': ('loss', True),
            'unsup_student': ('encode', False),
        }

    def test_backbone_runs_once_per_view(self):
        distiller = build()
        calls = []
        distiller.student.backbone.register_forward_hook(lambda *_: calls.append(1))
        distiller(*make_batch(VIEWS), mode='loss')
        assert len(calls) == 4

    def test_weight_zero_costs_nothing(self):
        objectives = {**OBJECTIVES, 'cast': {**CAST, 'weight': 0.0}}
        distiller = build(objectives)
        assert {request.view for request in distiller.plan()} == {'sup', 'unsup_teacher'}
        losses = distiller(*make_batch(['sup', 'unsup_teacher']), mode='loss')
        assert not any(name.startswith('cast') for name in losses)

    def test_schedule_switches_an_objective_on(self):
        weight = dict(type='Window', value=0.1, begin=1, end=10)
        distiller = build({**OBJECTIVES, 'cast': {**CAST, 'weight': weight}})
        batch = make_batch(VIEWS)
        assert 'cast.loss_pixel' not in distiller(*batch, mode='loss')
        assert 'cast.loss_pixel' in distiller(*batch, mode='loss')

    def test_teacher_runs_before_the_student(self, teacher_file):
        objectives = dict(unsup=dict(type='castkd.PseudoLabel', teacher='big'))
        distiller = build(
            objectives,
            teachers=dict(big=frozen(teacher_file)),
            pseudo_labeler=dict(type='castkd.QueryPseudoLabeler', score_thr=0.0, min_soft_area=0.0),
        )
        assert [request.network for request in distiller.plan()] == ['big', 'student']
        losses = distiller(*make_batch(VIEWS), mode='loss')
        assert torch.isfinite(total(losses))
        assert losses['pseudo.candidates'] > 0
        assert len(distiller.last_step.pseudo['big', 'unsup_teacher', 'unsup_student']) == 2
        assert set(distiller.last_step.results) == {('big', 'unsup_teacher')}


class Watcher(Objective):
    """Keeps what it was bound to, as an objective should: not as an attribute of its own."""

    def bind(self, trained, teachers):
        self.bound = {**trained, **{name: teacher.model for name, teacher in teachers.items()}}

    def passes(self):
        return [Pass(name, 'sup', 'encode', ('backbone[0]',)) for name in self.bound]

    def forward(self, step):
        return {'loss': step['student', 'sup'].taps['backbone[0]'].sum()}


class TestBinding:
    def test_objective_sees_the_networks_before_its_passes(self, teacher_file):
        distiller = build(
            dict(watcher=Watcher()),
            teachers=dict(big=frozen(teacher_file)),
            peers=dict(peer=tiny_mask2former()),
        )
        bound = distiller.objectives['watcher'].bound
        assert bound['student'] is distiller.student
        assert bound['peer'] is distiller.peers['peer']
        assert bound['big'] is distiller.teachers['big'].model
        assert {request.network for request in distiller.plan()} == {'student', 'peer', 'big'}

    def test_bound_networks_are_no_part_of_the_objective(self, teacher_file):
        distiller = build(dict(watcher=Watcher()), teachers=dict(big=frozen(teacher_file)))
        assert not list(distiller.objectives['watcher'].parameters())
        assert not any(name.startswith('objectives') for name in distiller.state_dict())
        distiller.train()
        assert not distiller.teachers['big'].model.training


class TestRouting:
    """Which parameters each term of CAST trains."""

    def test_contrast_reaches_encoder_and_projector_only(self):
        distiller = build(dict(cast=CAST))
        total(distiller(*make_batch(VIEWS), mode='loss')).backward()
        norms = {name for name, value in gradient_norms(distiller).items() if value > 0}
        assert any(name.startswith('student.backbone.layer1') for name in norms)
        assert any(name.startswith('objectives.cast.projector') for name in norms)
        assert not any('panoptic_head' in name for name in norms)
        assert not any('backbone.layer3' in name or 'backbone.layer4' in name for name in norms)

    def test_strong_view_gets_no_gradient(self):
        distiller = build(dict(cast=CAST))
        inputs, samples = make_batch(VIEWS)
        inputs = {view: images.clone().requires_grad_() for view, images in inputs.items()}
        total(distiller(inputs, samples, mode='loss')).backward()
        assert inputs['sup'].grad.abs().sum() > 0
        assert inputs['unsup_teacher'].grad.abs().sum() > 0
        assert inputs['sup_strong'].grad is None
        assert inputs['unsup_student'].grad is None

    def test_strong_view_leaves_batch_statistics_alone(self):
        distiller = build(dict(cast={**CAST, 'views': [('sup', 'sup_strong')]}))
        plain = build(dict(sup=dict(type='castkd.Supervised')))
        plain.student.load_state_dict(distiller.student.state_dict())
        batch = make_batch(VIEWS)
        distiller(*batch, mode='loss')
        plain(*make_batch(VIEWS), mode='loss')
        statistics = dict(plain.student.named_buffers())
        for name, value in distiller.student.named_buffers():
            assert torch.equal(value, statistics[name]), name
        assert distiller.student.backbone.bn1.track_running_stats

    def test_supervised_only_equals_plain_model(self):
        """With both lambdas zero the loss is plain Mask2Former's."""
        objectives = {
            'sup': dict(type='castkd.Supervised'),
            'unsup': {**OBJECTIVES['unsup'], 'weight': 0.0},
            'cast': {**CAST, 'weight': 0.0},
        }
        distiller = build(objectives)
        inputs, samples = make_batch(VIEWS)
        plain = copy.deepcopy(distiller.student)
        torch.manual_seed(1)
        ours = distiller(inputs, samples, mode='loss')
        torch.manual_seed(1)
        theirs = plain.loss(inputs['sup'], make_batch(VIEWS)[1]['sup'])
        for name, value in theirs.items():
            torch.testing.assert_close(ours[f'sup.{name}'], value, rtol=0, atol=1e-6)

    def test_weights_multiply(self):
        single = build(dict(sup=dict(type='castkd.Supervised')))
        double = build(dict(sup=dict(type='castkd.Supervised', weight=2.0)))
        batch = make_batch(['sup'])
        torch.manual_seed(1)
        one = single(*batch, mode='loss')
        torch.manual_seed(1)
        two = double(*batch, mode='loss')
        torch.testing.assert_close(two['sup.loss_cls'], 2 * one['sup.loss_cls'])


class TestEmptyLabels:
    def test_images_without_labels_are_dropped_from_the_loss(self):
        inputs, samples = make_batch(['unsup_teacher'])
        distiller = build(dict(unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher')))
        first = samples['unsup_teacher'][0]
        samples['unsup_teacher'][1].gt_instances = first.gt_instances[:0]
        torch.manual_seed(1)
        dropped = distiller(inputs, samples, mode='loss')['unsup.loss_cls']
        other = build(
            dict(unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher', drop_empty=False))
        )
        torch.manual_seed(1)
        kept = other(inputs, samples, mode='loss')['unsup.loss_cls']
        assert abs(dropped - kept) > 1e-4

    @pytest.mark.parametrize('drop_empty', [True, False])
    def test_no_label_at_all_keeps_the_graph(self, drop_empty):
        inputs, samples = make_batch(['unsup_teacher'])
        for sample in samples['unsup_teacher']:
            sample.gt_instances = sample.gt_instances[:0]
        objective = dict(type='castkd.PseudoLabel', view='unsup_teacher', drop_empty=drop_empty)
        distiller = build(dict(unsup=objective))
        loss = total(distiller(inputs, samples, mode='loss'))
        loss.backward()
        assert torch.isfinite(loss)
        missing = [
            name
            for name, parameter in distiller.student.named_parameters()
            if parameter.requires_grad and parameter.grad is None
        ]
        assert not missing
        assert (loss == 0) == drop_empty


class TestState:
    def test_frozen_teacher_is_nowhere(self, teacher_file):
        objectives = dict(unsup=dict(type='castkd.PseudoLabel', teacher='big'))
        distiller = build(
            objectives,
            teachers=dict(big=frozen(teacher_file)),
            pseudo_labeler=dict(type='castkd.InstancePseudoLabeler', score_thr=0.0),
        )
        assert all(key.startswith(('student.', 'step')) for key in distiller.state_dict())
        assert all(name.startswith('student.') for name, _ in distiller.named_parameters())
        distiller.train()
        assert not any(module.training for module in distiller.teachers['big'].model.modules())
        assert set(distiller.provenance()['big']) == {'file', 'sha256'}

    def test_teacher_of_another_architecture(self, tmp_path):
        larger = tiny_mask2former(base_channels=16, channels=32, num_queries=9)
        network = build_model(larger)
        torch.save({'state_dict': network.state_dict(), 'meta': {}}, tmp_path / 'large.pth')
        teacher = dict(
            type='castkd.FrozenTeacher', model=larger, checkpoint=str(tmp_path / 'large.pth')
        )
        distiller = build(
            dict(unsup=dict(type='castkd.PseudoLabel', teacher='big')),
            teachers=dict(big=teacher),
            pseudo_labeler=dict(type='castkd.InstancePseudoLabeler', score_thr=0.0),
        )
        losses = distiller(*make_batch(VIEWS), mode='loss')
        assert losses['pseudo.candidates'] == 2 * 2 * 9
        assert total(losses) > 0

    def test_frozen_teacher_is_unchanged_after_ten_steps(self, teacher_file):
        distiller = build(
            dict(unsup=dict(type='castkd.PseudoLabel', teacher='big')),
            teachers=dict(big=frozen(teacher_file)),
            pseudo_labeler=dict(type='castkd.InstancePseudoLabeler', score_thr=0.0),
        )
        before = distiller.teachers['big'].fingerprint()
        optimizer = torch.optim.SGD(distiller.parameters(), 0.01)
        for _ in range(10):
            total(distiller(*make_batch(VIEWS), mode='loss')).backward()
            optimizer.step()
        assert distiller.teachers['big'].fingerprint() == before

    def test_ema_teacher_round_trip(self):
        teachers = dict(ema=dict(type='castkd.EMATeacher', decay=0.5))
        distiller = build(teachers=teachers)
        distiller(*make_batch(VIEWS), mode='loss')
        with torch.no_grad():
            for parameter in distiller.student.parameters():
                parameter.add_(1.0)
        distiller(*make_batch(VIEWS), mode='loss')
        state = distiller.state_dict()
        assert sum(key.startswith('teachers.ema.') for key in state) == len(
            distiller.student.state_dict()
        )
        other = build(teachers=copy.deepcopy(teachers), seed=9)
        from mmengine.runner.checkpoint import load_state_dict

        for load in (other.load_state_dict, lambda content: load_state_dict(other, content, True)):
            load(copy.deepcopy(state))
            assert other.teachers['ema'].fingerprint() == distiller.teachers['ema'].fingerprint()
            assert other.step == 2

    def test_missing_ema_state_is_told(self):
        distiller = build(teachers=dict(ema=dict(type='castkd.EMATeacher')))
        plain = build()
        with pytest.raises(RuntimeError, match=r'teachers\.ema\.'):
            distiller.load_state_dict(plain.state_dict())

    def test_teacher_moves_with_the_model(self, teacher_file):
        distiller = build(
            dict(unsup=dict(type='castkd.PseudoLabel', teacher='big')),
            teachers=dict(big=frozen(teacher_file)),
            pseudo_labeler=dict(type='castkd.InstancePseudoLabeler'),
        )
        distiller.double()
        weight = next(distiller.teachers['big'].model.parameters())
        assert weight.dtype == torch.float64

    def test_student_checkpoint(self, teacher_file):
        distiller = build(student_checkpoint=teacher_file)
        expected = torch.load(teacher_file, weights_only=True)['state_dict']
        for key, value in distiller.student.state_dict().items():
            assert torch.equal(value, expected[key])

    def test_schedules_go_on_after_loading(self):
        """Weight and temperature follow the step that is in the checkpoint."""
        temperature = dict(type='Linear', start=0.4, end=0.1, steps=3)
        cast = copy.deepcopy({**CAST, 'weight': dict(type='Window', value=0.1, begin=2, end=9)})
        cast['loss']['temperature'] = temperature
        batch = make_batch(VIEWS)
        first = build(dict(sup=dict(type='castkd.Supervised'), cast=cast))
        for _ in range(2):
            first(*batch, mode='loss')
        second = build(dict(sup=dict(type='castkd.Supervised'), cast=cast), seed=4)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        values = []
        for distiller in (first, second):
            torch.manual_seed(2)
            values.append(distiller(*batch, mode='loss')['cast.loss_pixel'])
        torch.testing.assert_close(*values)

    def test_evaluation_does_not_advance_the_step(self):
        distiller = build()
        inputs, samples = make_batch(VIEWS)
        distiller(inputs, samples, mode='loss')
        distiller.eval()
        for sample in samples['sup']:
            sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
        with torch.no_grad():
            distiller(inputs['sup'], samples['sup'], mode='predict')
        assert distiller.step == 1


class Broken(Objective):
    """Gives a loss that is not a number."""

    def passes(self):
        return [Pass('student', 'sup', 'encode')]

    def forward(self, step):
        return {'loss_broken': torch.tensor(float('nan'), requires_grad=True)}


class TestErrors:
    def test_not_finite_loss_is_named(self):
        distiller = build(dict(mine=Broken(), sup=dict(type='castkd.Supervised')))
        losses = distiller(*make_batch(['sup']), mode='loss')
        with pytest.raises(TrainingError, match=r'step 0: .*mine\.loss_broken=nan'):
            distiller.parse_losses(losses)

    def test_unknown_view(self):
        distiller = build(dict(sup=dict(type='castkd.Supervised', view='supp')))
        with pytest.raises(ConfigError, match=r"no view 'supp'.*did you mean 'sup'"):
            distiller(*make_batch(['sup']), mode='loss')

    def test_unknown_teacher(self):
        with pytest.raises(ConfigError, match="no network is called 'big'"):
            build(
                dict(unsup=dict(type='castkd.PseudoLabel', teacher='big')),
                pseudo_labeler=dict(type='castkd.InstancePseudoLabeler'),
            )

    def test_missing_pseudo_labeler(self, teacher_file):
        with pytest.raises(ConfigError, match='set pseudo_labeler'):
            build(
                dict(unsup=dict(type='castkd.PseudoLabel', teacher='big')),
                teachers=dict(big=frozen(teacher_file)),
            )

    def test_unknown_tap(self):
        with pytest.raises(ConfigError, match="no module 'backbome'"):
            build(dict(cast={**CAST, 'feature': 'backbome[1]'}))

    def test_nothing_to_train_on(self):
        distiller = build({'sup': dict(type='castkd.Supervised', weight=0)})
        with pytest.raises(TrainingError, match='no objective gave a loss'):
            distiller.parse_losses(distiller(*make_batch(['sup']), mode='loss'))

    def test_network_of_no_family(self):
        student = nn.Linear(1, 1)
        student.data_preprocessor = nn.Identity()
        distiller = build({'sup': dict(type='castkd.Supervised')}, student=student)
        with pytest.raises(ConfigError, match='neither an mmdet detector'):
            distiller({'sup': torch.ones(1, 1)}, {'sup': []}, mode='loss')
