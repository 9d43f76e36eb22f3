"""MGD: which teacher teaches what, on which images, and what stays as it is."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from castkd.distiller import Distiller
from castkd.errors import ConfigError
from castkd.losses import image_semantic_loss, region_content_loss
from castkd.objectives import MultiGranularity
from castkd.structures import PassResult, Step
from castkd.teachers import Teacher
from tests.builders import make_map_sample, tiny_segmentor
from tests.segmentation import (
    CLASSES,
    CUTMIX,
    make_distiller,
    run_step,
    semantic_batch,
    teacher_file,
)

MGD = dict(type='castkd.MultiGranularity')
SUP = dict(type='castkd.Supervised')
LOGITS, FEATURE = 'decode_head', 'decode_head.conv_seg:input'
LEVELS = ('pixel', 'image', 'region')
NAMES = {'loss_pixel_labeled', 'loss_pixel_unlabeled', 'loss_image', 'loss_region'}


def only(level):
    return {f'{other}_weight': float(other == level) for other in LEVELS}


def make_step(classes=CLASSES, size=(8, 10), grids=None):
    """A step whose taps are random, on grids by network; labelled images ignore their left half."""
    torch.manual_seed(0)
    labels = torch.zeros(2, *size, dtype=torch.long)
    labels[..., :5] = 255
    samples = {'sup': [make_map_sample(item) for item in labels]}
    step = Step(0, {}, samples)
    images = {'sup': 2, 'unsup_teacher': 4, 'unsup_mixed': 2}
    for view, count in images.items():
        step.inputs[view] = torch.zeros(count, 3, *size)
        for network in ('student', 'deeper', 'wider'):
            trained = network == 'student'
            channels = classes if network == 'deeper' else CLASSES
            grid = (grids or {}).get(network, (4, 5))
            step.results[network, view] = PassResult(
                taps={
                    LOGITS: torch.randn(count, channels, *grid, requires_grad=trained),
                    FEATURE: torch.randn(count, 6 + trained, *grid, requires_grad=trained),
                }
            )
    mask = torch.rand(2, *size) > 0.5
    step.carries['unsup_mixed'] = lambda maps: torch.where(mask, maps[2:], maps[:2])
    step.mask = mask
    return step


def full(logits, size=(8, 10), *, aligned=False):
    return F.interpolate(logits, size=size, mode='bilinear', align_corners=aligned)


@pytest.fixture
def teachers(tmp_path):
    return dict(
        deeper=teacher_file(tmp_path / 'deeper.pth', 11),
        wider=teacher_file(tmp_path / 'wider.pth', 12, channels=24),
    )


class TestLosses:
    def test_pixel_level_by_hand(self):
        step = make_step()
        losses = MultiGranularity(**only('pixel'))(step)
        labeled = full(step['student', 'sup'].taps[LOGITS])
        mixed = full(step['student', 'unsup_mixed'].taps[LOGITS])
        expected = dict.fromkeys(losses, 0.0)
        for teacher in ('deeper', 'wider'):
            truth = full(step[teacher, 'sup'].taps[LOGITS]).argmax(1)
            expected['loss_pixel_labeled'] += F.cross_entropy(labeled, truth)
            before = full(step[teacher, 'unsup_teacher'].taps[LOGITS])
            logits = torch.where(step.mask[:, None], before[2:], before[:2])
            expected['loss_pixel_unlabeled'] += F.cross_entropy(mixed, logits.argmax(1))
        torch.testing.assert_close(losses, expected)
        assert 0 < step.statistics['mgd.agreement'] < 1

    def test_image_and_region_level_by_hand(self):
        step = make_step()
        losses = MultiGranularity()(step)
        student = step['student', 'unsup_mixed'].taps
        deeper, wider = (step[name, 'unsup_mixed'].taps for name in ('deeper', 'wider'))
        image = 0.002 * image_semantic_loss(full(student[LOGITS]), full(deeper[LOGITS]))
        region = 100 * region_content_loss(student[FEATURE], wider[FEATURE])
        assert set(losses) == NAMES
        torch.testing.assert_close(losses['loss_image'], image)
        torch.testing.assert_close(losses['loss_region'], region)

    @pytest.mark.parametrize(
        ('network', 'view', 'tap', 'changed'),
        [
            ('wider', 'unsup_mixed', FEATURE, {'loss_region'}),
            ('deeper', 'unsup_mixed', LOGITS, {'loss_image'}),
            ('deeper', 'unsup_teacher', LOGITS, {'loss_pixel_unlabeled'}),
            ('wider', 'unsup_teacher', LOGITS, {'loss_pixel_unlabeled'}),
            ('deeper', 'sup', LOGITS, {'loss_pixel_labeled'}),
            ('wider', 'sup', LOGITS, {'loss_pixel_labeled'}),
            ('deeper', 'unsup_mixed', FEATURE, set()),
            ('wider', 'unsup_mixed', LOGITS, set()),
        ],
    )
    def test_noise_in_an_output_changes_what_is_routed_to_it(self, network, view, tap, changed):
        objective = MultiGranularity()
        before = objective(make_step())
        step = make_step()
        step[network, view].taps[tap] = torch.randn_like(step[network, view].taps[tap])
        after = objective(step)
        assert {name for name in before if before[name] != after[name]} == changed

    def test_equal_networks_leave_the_pixel_level_alone(self):
        step = make_step()
        for (_, view), result in step.results.items():
            result.taps = step['student', view].taps
        for network in ('student', 'deeper', 'wider'):
            step.results[network, 'unsup_mixed'] = step['student', 'unsup_mixed']
        losses = MultiGranularity()(step)
        assert losses['loss_image'] == losses['loss_region'] == 0
        logits = full(step['student', 'sup'].taps[LOGITS])
        expected = 2 * F.cross_entropy(logits, logits.argmax(1))
        torch.testing.assert_close(losses['loss_pixel_labeled'], expected)
        assert expected > 0.1
        # What is left is how unsure the network is of its own labels.
        for view in ('sup', 'unsup_teacher', 'unsup_mixed'):
            logits = step['student', view].taps[LOGITS]
            step['student', view].taps[LOGITS] = logits * 1000
        assert MultiGranularity(**only('pixel'))(step)['loss_pixel_labeled'] < expected / 100

    def test_teachers_of_other_strides(self):
        step = make_step(grids=dict(deeper=(2, 3), wider=(8, 10)))
        losses = MultiGranularity()(step)
        student = step['student', 'unsup_mixed'].taps
        deeper, wider = (step[name, 'unsup_mixed'].taps for name in ('deeper', 'wider'))
        image = 0.002 * image_semantic_loss(full(student[LOGITS]), full(deeper[LOGITS]))
        torch.testing.assert_close(losses['loss_image'], image)
        region = 100 * region_content_loss(student[FEATURE], wider[FEATURE])
        torch.testing.assert_close(losses['loss_region'], region)
        labeled = full(step['student', 'sup'].taps[LOGITS])
        expected = sum(
            F.cross_entropy(labeled, full(step[name, 'sup'].taps[LOGITS]).argmax(1))
            for name in ('deeper', 'wider')
        )
        torch.testing.assert_close(losses['loss_pixel_labeled'], expected)

    @pytest.mark.parametrize('aligned', ['student', 'deeper', 'wider'])
    def test_logits_are_resized_as_each_head_does(self, aligned):
        def network(name):
            head = nn.Module()
            head.align_corners = name == aligned
            # Of a cascade the last head speaks.
            heads = nn.ModuleList([nn.Module(), head])
            return nn.ModuleDict({'decode_head': heads if name == 'deeper' else head})

        objective = MultiGranularity(**only('pixel'))
        teachers = {name: Teacher(network(name)) for name in ('deeper', 'wider')}
        objective.bind({'student': network('student')}, teachers)
        step = make_step()
        own, *others = (
            full(step[name, 'sup'].taps[LOGITS], aligned=name == aligned)
            for name in ('student', 'deeper', 'wider')
        )
        expected = sum(F.cross_entropy(own, other.argmax(1)) for other in others)
        torch.testing.assert_close(objective(step)['loss_pixel_labeled'], expected)

    def test_ignored_pixels_count_unless_masked(self):
        step = make_step()
        plain = MultiGranularity(**only('pixel'))(step)['loss_pixel_labeled']
        masked = MultiGranularity(**only('pixel'), mask_ignored=True)(step)['loss_pixel_labeled']
        logits = full(step['student', 'sup'].taps[LOGITS])[..., 5:]
        expected = sum(
            F.cross_entropy(logits, full(step[name, 'sup'].taps[LOGITS]).argmax(1)[..., 5:])
            for name in ('deeper', 'wider')
        )
        assert plain != masked
        torch.testing.assert_close(masked, expected)

    def test_masked_padding_teaches_nothing(self):
        step = make_step()
        step.samples['sup'] = [make_map_sample(shape=(8, 7)) for _ in range(2)]
        # The first half of the images is whole, the other six rows high.
        step.samples['unsup_teacher'] = [
            make_map_sample(shape=shape) for shape in 2 * [(8, 10)] + 2 * [(6, 10)]
        ]
        plain = MultiGranularity(**only('pixel'))(step)
        losses = MultiGranularity(**only('pixel'), mask_padding=True)(step)
        student = full(step['student', 'sup'].taps[LOGITS])[..., :7]
        expected = sum(
            F.cross_entropy(student, full(step[name, 'sup'].taps[LOGITS]).argmax(1)[..., :7])
            for name in ('deeper', 'wider')
        )
        torch.testing.assert_close(losses['loss_pixel_labeled'], expected)
        inside = ~step.mask
        inside[:, :6] = True
        student = full(step['student', 'unsup_mixed'].taps[LOGITS]).permute(0, 2, 3, 1)[inside]
        expected = sum(
            F.cross_entropy(student, step.carry(labels, 'unsup_mixed')[inside])
            for labels in (
                full(step[name, 'unsup_teacher'].taps[LOGITS]).argmax(1)
                for name in ('deeper', 'wider')
            )
        )
        torch.testing.assert_close(losses['loss_pixel_unlabeled'], expected)
        labels = [
            step.carry(full(step[name, 'unsup_teacher'].taps[LOGITS]).argmax(1), 'unsup_mixed')
            for name in ('deeper', 'wider')
        ]
        same = (labels[0] == labels[1])[inside].float().mean()
        torch.testing.assert_close(step.statistics['mgd.agreement'], same)
        assert all(plain[name] != losses[name] for name in losses if 'pixel' in name)

    def test_other_classes_are_refused(self):
        text = (
            "'deeper' has 4 classes and the student 3; set num_classes of its decode head, or take"
        )
        with pytest.raises(ConfigError, match=text):
            MultiGranularity()(make_step(classes=4))

    @pytest.mark.parametrize(
        ('options', 'text'),
        [
            (dict(image_weight=-1.0), 'image_weight must be a number in'),
            (only('none'), 'all levels have weight 0'),
        ],
    )
    def test_wrong_weights_are_named(self, options, text):
        with pytest.raises(ConfigError, match=text):
            MultiGranularity(**options)


class TestStep:
    def test_each_network_runs_once_per_view(self, teachers):
        plan = make_distiller(teachers=teachers, objectives=dict(sup=SUP, mgd=MGD)).plan()
        runs = {(item.network, item.view): (item.kind, item.taps) for item in plan}
        assert len(runs) == len(plan) == 8
        assert runs == {
            ('student', 'sup'): ('loss', (LOGITS,)),
            ('student', 'unsup_mixed'): ('forward', (LOGITS, FEATURE)),
            ('deeper', 'unsup_mixed'): ('forward', (LOGITS,)),
            ('wider', 'unsup_mixed'): ('forward', (FEATURE,)),
            **{
                (teacher, view): ('forward', (LOGITS,))
                for teacher in ('deeper', 'wider')
                for view in ('sup', 'unsup_teacher')
            },
        }

    @pytest.mark.parametrize('level', LEVELS)
    def test_a_level_of_weight_zero_costs_nothing(self, teachers, level):
        objective = {**MGD, **only(level)}
        plan = make_distiller(teachers=teachers, objectives=dict(mgd=objective)).plan()
        runs = {(item.network, item.view) for item in plan}
        views = ('sup', 'unsup_teacher')
        pixel = {(teacher, view) for teacher in ('deeper', 'wider') for view in views}
        assert (
            runs
            == {
                'pixel': {*pixel, ('student', 'sup'), ('student', 'unsup_mixed')},
                'image': {('deeper', 'unsup_mixed'), ('student', 'unsup_mixed')},
                'region': {('wider', 'unsup_mixed'), ('student', 'unsup_mixed')},
            }[level]
        )

    def test_gradient_reaches_the_student_alone_and_teachers_stay(self, teachers):
        distiller = make_distiller(teachers=teachers, objectives=dict(sup=SUP, mgd=MGD))
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.05)
        marks = {name: teacher.fingerprint() for name, teacher in distiller.teachers.items()}
        for seed in range(3):
            optimizer.zero_grad()
            losses = run_step(distiller, semantic_batch(size=(33, 47), seed=seed), seed)
            total, _ = distiller.parse_losses(losses)
            total.backward()
            optimizer.step()
        assert all(item.grad.isfinite().all() for item in distiller.student.parameters())
        for name, teacher in distiller.teachers.items():
            assert teacher.fingerprint() == marks[name]
            assert all(item.grad is None for item in teacher.model.parameters())

    def test_teachers_stay_over_many_steps(self):
        """Bit for bit, on networks of one stage."""
        torch.manual_seed(0)
        config = tiny_segmentor(CLASSES)
        config['backbone'].update(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
        config['decode_head'].update(in_channels=8, in_index=0)
        teachers = {name: Teacher(config) for name in ('deeper', 'wider')}
        distiller = Distiller(config, teachers, views=CUTMIX, objectives=dict(sup=SUP, mgd=MGD))
        distiller.init_weights()
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01)
        marks = {name: teacher.fingerprint() for name, teacher in teachers.items()}
        student = copy.deepcopy(distiller.student.state_dict())
        batch = semantic_batch(size=(16, 24))
        for seed in range(100):
            optimizer.zero_grad()
            distiller.parse_losses(run_step(distiller, batch, seed))[0].backward()
            optimizer.step()
        assert {name: item.fingerprint() for name, item in teachers.items()} == marks
        for name, value in distiller.student.state_dict().items():
            assert not torch.equal(value, student[name]), name

    def test_each_loss_reaches_the_backbone(self, teachers):
        for name in sorted(NAMES):
            distiller = make_distiller(teachers=teachers, objectives=dict(mgd=MGD))
            run_step(distiller, semantic_batch())[f'mgd.{name}'].backward()
            assert distiller.student.backbone.conv1.weight.grad.any()
            classifier = distiller.student.decode_head.conv_seg.weight.grad
            assert (classifier is None) == (name == 'loss_region')

    def test_without_it_training_is_supervised_training(self, teachers):
        plain = make_distiller(objectives=dict(sup=SUP))
        off = make_distiller(
            teachers=teachers, objectives=dict(sup=SUP, mgd={**MGD, 'weight': 0.0})
        )
        off.student.load_state_dict(plain.student.state_dict())
        batch = semantic_batch()
        expected = plain.student.loss(batch[0]['sup'], batch[1]['sup'])['decode.loss_ce']
        losses = run_step(off, batch)
        assert torch.equal(losses['sup.decode.loss_ce'], expected)
        assert not any('mgd' in name for name in losses)

    def test_labelled_crops_without_any_label(self, teachers):
        mgd = {**MGD, 'mask_ignored': True}
        distiller = make_distiller(teachers=teachers, objectives=dict(sup=SUP, mgd=mgd))
        inputs, samples = semantic_batch()
        for sample in samples['sup']:
            sample.gt_sem_seg.data.fill_(255)
        losses = run_step(distiller, (inputs, samples))
        total, _ = distiller.parse_losses(losses)
        total.backward()
        assert losses['mgd.loss_pixel_labeled'] == 0
        assert losses['mgd.loss_pixel_unlabeled'] > 0
        assert all(item.grad.isfinite().all() for item in distiller.student.parameters())
