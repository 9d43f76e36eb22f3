"""LAD: two paths of a label-assisted teacher, and a student that learns from it."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from castkd.distiller import Distiller
from castkd.objectives import DualPath
from castkd.registry import build_model
from castkd.structures import PassResult, Step
from tests.builders import make_map_sample, tiny_segmentor
from tests.losses.map_pairs import waves

METHODS = Path(__file__).parents[2] / 'configs' / '_base_' / 'methods'
CLASSES = 3
LOGITS = 'decode_head.conv_seg'
QUIET = dict(type='castkd.LabelNoise', mode='fixed', sigma=0.0)
TEACHER = dict(
    path1=dict(type='castkd.Supervised'),
    path2=dict(type='castkd.Supervised', view='sup#2'),
    dual=dict(type='castkd.DualPath'),
)
CWD = dict(
    type='castkd.Distillation',
    teacher='twin',
    taps=LOGITS,
    loss=dict(type='castkd.ChannelWiseDistillation', tau=4.0),
    weight=3.0,
)
STUDENT = dict(sup=dict(type='castkd.Supervised'), distill=CWD)


def segmentor(**options):
    config = tiny_segmentor(CLASSES)
    config['decode_head']['loss_decode'] = dict(type='CrossEntropyLoss', avg_non_ignore=True)
    return {**config, **options}


def assisted(**options):
    return segmentor(type='castkd.LabelAssistedSegmentor', **options)


def batch(size=(64, 64), count=2, views=('sup',)):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, *size, generator=generator)
    labels = torch.randint(CLASSES, (count, *size), generator=generator)
    labels[:, :8, :8] = 255
    samples = [make_map_sample(item) for item in labels]
    return dict.fromkeys(views, images), dict.fromkeys(views, samples)


def ignored(samples):
    return {view: [make_map_sample(torch.full((64, 64), 255)) for _ in items]
            for view, items in samples.items()}  # fmt: skip


def build(student, objectives, seed=0, **options):
    torch.manual_seed(seed)
    distiller = Distiller(student=student, objectives=objectives, **options)
    distiller.init_weights()
    return distiller.train()


def distilled(path, objectives=STUDENT, student=None, **options):
    """Return a distiller whose teacher is a random label-assisted network."""
    torch.manual_seed(9)
    network = build_model(assisted())
    network.init_weights()
    torch.save({'state_dict': network.state_dict()}, path / 'twin.pth')
    twin = dict(type='castkd.LabelAssistedTeacher', model=assisted(),
                checkpoint=str(path / 'twin.pth'))  # fmt: skip
    return build(student or segmentor(), objectives, teachers=dict(twin=twin), **options)


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


class TestTeacher:
    def test_two_runs_of_one_network(self):
        plan = build(assisted(), TEACHER).plan()
        assert [(run.view, run.kind, run.taps) for run in plan] == [
            ('sup', 'loss', (LOGITS,)),
            ('sup#2', 'loss', (LOGITS,)),
        ]

    def test_weight_of_the_paper(self):
        """Two cross-entropies and 5 times the two-sided distance; here of two waves."""
        objective = DualPath()
        step = Step(0, {}, {})
        for view, logits in zip(objective.views, waves(), strict=True):
            step.results['student', view] = PassResult(taps={LOGITS: logits})
        value = objective.weight(0) * objective(step)['loss_consistency']
        assert value.item() == pytest.approx(5 * 0.2991398992, abs=1e-8)

    def test_paths_differ_by_their_noise_alone(self):
        losses = build(assisted(), TEACHER)(*batch(), mode='loss')
        assert losses['path1.decode.loss_ce'] != losses['path2.decode.loss_ce']
        assert losses['dual.loss_consistency'] > 0
        losses = build(assisted(train_noise=QUIET), TEACHER)(*batch(), mode='loss')
        assert losses['path1.decode.loss_ce'] == losses['path2.decode.loss_ce']
        assert losses['dual.loss_consistency'].item() == pytest.approx(0, abs=1e-6)

    def test_logged_losses(self):
        losses = build(assisted(), TEACHER)(*batch(), mode='loss')
        assert {name for name in losses if 'loss' in name} == {
            'path1.decode.loss_ce',
            'path2.decode.loss_ce',
            'dual.loss_consistency',
        }

    @pytest.mark.parametrize('objectives', [TEACHER, {**TEACHER, 'path1': None, 'path2': None}],
                             ids=['all', 'consistency alone'])  # fmt: skip
    def test_gradient_reaches_the_label_part_of_the_stem(self, objectives):
        objectives = {name: item for name, item in objectives.items() if item}
        distiller = build(assisted(), objectives)
        total(distiller(*batch(), mode='loss')).backward()
        gradient = distiller.student.backbone.conv1.weight.grad
        assert gradient[:, :3].abs().sum() > 0
        assert gradient[:, 3].abs().sum() > 0

    def test_fully_ignored_crop(self):
        distiller = build(assisted(), TEACHER)
        inputs, samples = batch()
        losses = distiller(inputs, ignored(samples), mode='loss')
        assert losses['path1.decode.loss_ce'].item() == 0
        assert losses['dual.loss_consistency'].isfinite()
        total(losses).backward()
        for name, parameter in distiller.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    @pytest.mark.parametrize('size', [(65, 47), (39, 70)])
    def test_odd_crops(self, size):
        losses = build(assisted(), TEACHER)(*batch(size), mode='loss')
        assert total(losses).isfinite()


class TestStudent:
    def test_teacher_is_unchanged_and_student_learns(self, tmp_path):
        distiller = distilled(tmp_path)
        teacher = distiller.teachers['twin']
        before, weight = teacher.fingerprint(), distiller.student.backbone.conv1.weight.clone()
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            total(distiller(*batch(), mode='loss')).backward()
            optimizer.step()
        assert teacher.fingerprint() == before
        assert all(parameter.grad is None for parameter in teacher.model.parameters())
        assert not torch.equal(distiller.student.backbone.conv1.weight, weight)
        assert distiller.student.backbone.conv1.weight.shape[1] == 3

    def test_weight_of_the_paper(self):
        """The shipped objective on two waves: 3 times channel-wise distillation at temperature 4."""
        objective = build_model(
            Config.fromfile(METHODS / 'lad_student.py').model.objectives.distill
        )
        step = Step(0, {}, {'sup': [None]})
        for network, logits in zip(('student', 'twin'), waves(), strict=True):
            step.results[network, 'sup'] = PassResult(taps={LOGITS: logits})
        value = objective.weight(0) * objective(step)['loss_sup']
        assert value.item() == pytest.approx(0.4480273649, abs=1e-9)

    def test_distillation_reaches_all_but_the_bias(self, tmp_path):
        """CWD is blind to a constant of a channel, so the classifier's bias learns from labels alone."""
        distiller = distilled(tmp_path, dict(distill=CWD))
        losses = distiller(*batch(), mode='loss')
        total(losses).backward()
        head = distiller.student.decode_head.conv_seg
        assert head.weight.grad.abs().sum() > 0
        assert head.bias.grad.abs().max() < 1e-6
        assert distiller.student.backbone.conv1.weight.grad.abs().sum() > 0

    def test_weight_zero_is_the_plain_student(self, tmp_path):
        objectives = {**STUDENT, 'distill': {**CWD, 'weight': 0.0}}
        distiller = distilled(tmp_path, objectives)
        plain = copy.deepcopy(distiller.student)
        ours = distiller(*batch(), mode='loss')
        inputs, samples = batch()
        theirs = plain.loss(inputs['sup'], samples['sup'])
        assert {name for name in ours if 'loss' in name} == {'sup.decode.loss_ce'}
        assert torch.equal(ours['sup.decode.loss_ce'], theirs['decode.loss_ce'])

    def test_labels_reach_the_teacher_and_not_the_student(self, tmp_path):
        distiller = distilled(tmp_path)
        inputs, samples = batch()
        others = {'sup': [make_map_sample(sample.gt_sem_seg.data[0].flip(1))
                          for sample in samples['sup']]}  # fmt: skip
        taps = []
        for item in (samples, others):
            distiller(inputs, item, mode='loss')
            taps.append(distiller.last_step['twin', 'sup'].taps[LOGITS])
        assert (taps[0] - taps[1]).abs().max() > 1e-4
        student = distiller.student.eval()
        with torch.no_grad():
            outputs = [
                student(inputs['sup'], item['sup'], mode='tensor') for item in (samples, others)
            ]
        assert torch.equal(*outputs)

    def test_fully_ignored_crop(self, tmp_path):
        distiller = distilled(tmp_path)
        inputs, samples = batch()
        losses = distiller(inputs, ignored(samples), mode='loss')
        assert losses['sup.decode.loss_ce'].item() == 0
        assert losses['distill.loss_sup'] > 0
        total(losses).backward()
        assert all(item.grad.isfinite().all() for item in distiller.student.parameters())

    def test_images_with_pseudo_labels_take_part(self, tmp_path):
        """What a file labelled is read by the teacher like truth, on the weak view; the student sees the strong one."""
        method = Config.fromfile(METHODS / 'lad_student_pseudo.py').model
        weights = {name: item.get('weight', 1.0) for name, item in method.objectives.items()}
        assert weights == {'sup': 1.0, 'unsup': 1.0, 'distill': 3.0}
        views = ('sup', 'unsup_teacher', 'unsup_student')
        distiller = distilled(tmp_path, method.objectives.to_dict())
        assert [(run.network, run.view) for run in distiller.plan()] == [
            ('twin', 'sup'),
            ('twin', 'unsup_teacher'),
            ('student', 'sup'),
            ('student', 'unsup_student'),
        ]
        losses = distiller(*batch(views=views), mode='loss')
        assert losses['distill.loss_unsup_student'] > 0
        assert losses['unsup.decode.loss_ce'] > 0

    @pytest.mark.parametrize('size', [(65, 47), (39, 70)])
    def test_odd_crops_and_another_stride(self, tmp_path, size):
        student = segmentor()
        student['backbone'].update(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
        losses = distilled(tmp_path, student=student)(*batch(size), mode='loss')
        assert total(losses).isfinite()
