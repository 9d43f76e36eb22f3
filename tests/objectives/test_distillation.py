"""The generic objective: what runs, what learns, and which maps the loss gets."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from castkd.distiller import Distiller
from castkd.errors import ConfigError, DataError
from castkd.losses import AttentionTransfer, IntraClassVariation, LogitDistillation, PixelSimilarity
from castkd.objectives.distillation import Distillation, label_maps, match_grids
from castkd.structures import PassResult, Step
from castkd.teachers import Teacher
from tests.builders import make_batch, make_map_sample, tiny_segmentor, tiny_solov2

LOGITS = 'decode_head.conv_seg'
FEATURE = 'decode_head.conv_seg:input'
KD = dict(type='castkd.Distillation', teacher='big', taps=LOGITS)
KD['loss'] = dict(type='castkd.LogitDistillation')
HINT = dict(
    type='castkd.Distillation',
    teacher='big',
    taps=FEATURE,
    loss=dict(type='castkd.HintLoss'),
    connector=dict(type='castkd.ConvConnector', in_channels=16, out_channels=24),
)
ENCODER = dict(type='castkd.Distillation', teacher='big', taps='backbone[1]')
ENCODER['loss'] = dict(type='castkd.AttentionTransfer')


def big_segmentor(num_classes=3, stride=32):
    config = tiny_segmentor(num_classes)
    config['decode_head']['channels'] = 24
    if stride == 16:
        config['backbone'].update(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
    return config


def build(objectives, teacher=None, student=None):
    torch.manual_seed(0)
    distiller = Distiller(
        student=student or tiny_segmentor(),
        teachers=dict(big=Teacher(teacher or big_segmentor())),
        objectives=objectives,
    )
    distiller.init_weights()
    return distiller


def batch(views=('sup',), size=(64, 96), images=2, label=None):
    torch.manual_seed(1)
    inputs, samples = {}, {}
    for view in views:
        inputs[view] = torch.randn(images, 3, *size)
        maps = [torch.randint(0, 3, size) for _ in range(images)]
        maps = [torch.full_like(item, label) for item in maps] if label is not None else maps
        samples[view] = [make_map_sample(item.numpy()) for item in maps]
    return inputs, samples


def total(losses):
    return sum(value if torch.is_tensor(value) else sum(value) for value in losses.values())


def learning(module):
    return {
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }


class Recorder(nn.Module):
    """Stands for a loss and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, student, teacher, target=None):
        self.calls.append((student, teacher, target))
        return student.mean()


def step_of(student, teacher, samples=None, view='sup', teacher_view='sup'):
    """Return a step in which tap 'a' of the student and tap 'b' of the teacher gave these values."""
    samples = samples or {
        name: [make_map_sample(np.zeros((4, 4)))] for name in (view, teacher_view)
    }
    step = Step(0, {}, samples)
    step.results['student', view] = PassResult(taps={'a': student})
    step.results['big', teacher_view] = PassResult(taps={'b': teacher})
    return step


def objective(**options):
    return Distillation(**{'teacher': 'big', 'taps': 'a', 'teacher_taps': 'b', **options})


class TestRuns:
    def test_objectives_share_one_run_per_network_and_view(self):
        views = ['sup', 'unsup']
        names = dict(kd=KD, hint=HINT, at=ENCODER)
        distiller = build({name: {**item, 'views': views} for name, item in names.items()})
        calls = {'student': [], 'big': []}
        for name, network in (
            ('student', distiller.student),
            ('big', distiller.teachers['big'].model),
        ):
            network.backbone.register_forward_hook(lambda *_, name=name: calls[name].append(1))
        losses = distiller(*batch(views), mode='loss')
        assert {name: len(found) for name, found in calls.items()} == {'student': 2, 'big': 2}
        assert sorted(losses) == sorted(f'{name}.loss_{view}' for name in names for view in views)
        assert all(value > 0 for value in losses.values())
        assert [request.network for request in distiller.plan()] == [
            'big',
            'big',
            'student',
            'student',
        ]
        assert not any(request.grad for request in distiller.plan() if request.network == 'big')

    def test_a_tap_of_the_encoder_runs_no_head(self):
        distiller = build(dict(at=ENCODER))
        assert {request.kind for request in distiller.plan()} == {'encode'}
        distiller.student.decode_head.register_forward_hook(lambda *_: pytest.fail('head ran'))
        assert distiller(*batch(), mode='loss')['at.loss_sup'] > 0

    def test_shares_the_run_of_the_students_own_loss(self):
        distiller = build(dict(sup=dict(type='castkd.Supervised'), kd=KD))
        kinds = {request.network: request.kind for request in distiller.plan()}
        assert kinds == {'big': 'forward', 'student': 'loss'}
        losses = distiller(*batch(), mode='loss')
        assert {'sup.decode.loss_ce', 'kd.loss_sup'} <= set(losses)

    def test_loss_is_that_of_the_networks_logits(self):
        distiller = build(dict(kd={**KD, 'weight': 0.5}))
        inputs, samples = batch()
        value = distiller(inputs, samples, mode='loss')['kd.loss_sup']
        with torch.no_grad():
            own = distiller.student.decode_head(distiller.student.extract_feat(inputs['sup']))
            teacher = distiller.teachers['big'].model
            wanted = teacher.decode_head(teacher.extract_feat(inputs['sup']))
        torch.testing.assert_close(value.detach(), 0.5 * LogitDistillation()(own, wanted))


class TestLearning:
    def test_feature_loss_reaches_what_lies_below_the_tap_and_the_connector(self):
        distiller = build(dict(hint=HINT))
        total(distiller(*batch(), mode='loss')).backward()
        names = learning(distiller)
        parts = {'.'.join(name.split('.')[:3]) for name in names}
        assert 'objectives.hint.connectors' in parts
        assert 'student.backbone.conv1' in parts
        assert 'student.decode_head.convs' in parts
        assert not any('conv_seg' in name for name in names)

    def test_encoder_loss_reaches_no_later_layer(self):
        distiller = build(dict(at=ENCODER))
        total(distiller(*batch(), mode='loss')).backward()
        names = learning(distiller)
        assert any('backbone.layer2' in name for name in names)
        assert not any('layer3' in name or 'decode_head' in name for name in names)

    def test_teacher_is_unchanged_bit_for_bit(self):
        distiller = build(dict(kd=KD, hint=HINT))
        teacher = distiller.teachers['big']
        before = teacher.fingerprint()
        weights = [parameter.detach().clone() for parameter in distiller.parameters()]
        optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
        distiller.train()
        for _ in range(2):
            optimizer.zero_grad()
            total(distiller(*batch(), mode='loss')).backward()
            optimizer.step()
        assert teacher.fingerprint() == before
        assert all(parameter.grad is None for parameter in teacher.model.parameters())
        assert not all(map(torch.equal, weights, distiller.parameters()))

    def test_checkpoint_holds_connectors_and_no_teacher(self):
        keys = build(dict(hint=HINT)).state_dict()
        assert 'objectives.hint.connectors.0.conv.weight' in keys
        assert not any('teacher' in key for key in keys)


class TestMaps:
    def test_several_taps_are_compared_one_by_one(self):
        taps = ['backbone[1]', 'backbone[2]']
        distiller = build(dict(at={**ENCODER, 'taps': taps}))
        inputs, samples = batch()
        values = distiller(inputs, samples, mode='loss')['at.loss_sup']
        with torch.no_grad():
            own, wanted = (
                network.extract_feat(inputs['sup'])
                for network in (distiller.student, distiller.teachers['big'].model)
            )
        expected = [AttentionTransfer()(own[index], wanted[index]) for index in (1, 2)]
        torch.testing.assert_close([value.detach() for value in values], expected)

    def test_a_loss_on_lists_gets_all_maps_in_one_call(self):
        taps = [LOGITS, FEATURE, LOGITS]
        loss = dict(type='castkd.PixelSimilarity')
        distiller = build(dict(psd={**KD, 'taps': taps, 'loss': loss}))
        value = distiller(*batch(), mode='loss')['psd.loss_sup']
        assert value.shape == ()
        given = objective(taps=['a', 'a'], teacher_taps=['b', 'b'], loss=PixelSimilarity())
        own, other = torch.randn(1, 2, 4, 4), torch.randn(1, 5, 4, 4)
        step = step_of([own, own.roll(1, 3)], [other, other.roll(1, 2)])
        expected = PixelSimilarity()([own, own.roll(1, 3)] * 2, [other, other.roll(1, 2)] * 2)
        torch.testing.assert_close(given(step)['loss_sup'], expected)

    def test_pyramid_of_a_detector_behind_one_connector(self):
        connector = dict(type='castkd.ConvConnector', in_channels=16, out_channels=24)
        distiller = build(
            dict(hint={**HINT, 'taps': 'neck', 'connector': connector}),
            teacher=tiny_solov2(channels=24),
            student=tiny_solov2(),
        )
        assert {request.kind for request in distiller.plan()} == {'encode'}
        values = distiller(*make_batch(['sup']), mode='loss')['hint.loss_sup']
        assert len(values) == 4
        assert all(value > 0 for value in values)
        sum(values).backward()
        assert {'objectives.hint.connectors.0.conv.weight'} <= learning(distiller)

    def test_none_stands_for_a_map_that_is_compared_as_it_is(self):
        connector = dict(type='castkd.ConvConnector', in_channels=16, out_channels=24)
        distiller = build(
            dict(mix={**HINT, 'taps': [LOGITS, FEATURE], 'connector': [None, connector]})
        )
        assert len(distiller(*batch(), mode='loss')['mix.loss_sup']) == 2

    @pytest.mark.parametrize('resize', ['larger', 'student'])
    def test_teacher_of_another_stride(self, resize):
        loss = dict(type='castkd.ChannelWiseDistillation')
        objectives = dict(cwd={**KD, 'loss': loss, 'resize': resize})
        distiller = build(objectives, teacher=big_segmentor(stride=16))
        loss = total(distiller(*batch(size=(64, 96)), mode='loss'))
        loss.backward()
        assert loss > 0
        assert 'student.backbone.conv1.weight' in learning(distiller)

    @pytest.mark.parametrize('size', [(65, 97), (33, 47)])
    def test_odd_crops(self, size):
        losses = build(dict(kd=KD, hint=HINT, at=ENCODER))(*batch(size=size), mode='loss')
        assert all(value.isfinite() and value > 0 for value in losses.values())

    def test_grids_that_match_are_left_alone(self):
        own, other = torch.randn(1, 2, 3, 4), torch.randn(1, 5, 3, 4)
        for resize in ('larger', 'student', 'refuse'):
            assert match_grids(own, other, resize) == (own, other)

    def test_larger_takes_the_larger_side_of_each(self):
        own, other = torch.randn(1, 2, 3, 8), torch.randn(1, 5, 6, 4)
        first, second = match_grids(own, other, 'larger')
        for resized, given in ((first, own), (second, other)):
            expected = F.interpolate(given, (6, 8), mode='bilinear', align_corners=False)
            torch.testing.assert_close(resized, expected)

    def test_student_keeps_its_grid_and_a_larger_teacher_is_averaged(self):
        # A quarter of the side: at half of it, bilinear and average would be the same.
        own, other = torch.randn(1, 2, 3, 4), torch.randn(1, 5, 12, 16)
        first, second = match_grids(own, other, 'student')
        assert first is own
        torch.testing.assert_close(second, F.avg_pool2d(other, 4))
        second = match_grids(other, own, 'student')[1]
        torch.testing.assert_close(second, F.interpolate(own, (12, 16), mode='bilinear'))

    def test_the_loss_gets_no_gradient_of_the_teacher(self):
        loss = Recorder()
        own, other = (torch.randn(1, 2, 3, 4, requires_grad=True) for _ in range(2))
        objective(loss=loss)(step_of(own, other))
        student, teacher, target = loss.calls[0]
        assert student.requires_grad
        assert not teacher.requires_grad
        assert target is None


class TestLabels:
    def test_label_maps_reach_the_loss(self):
        config = {**HINT, 'connector': None, 'labels': True}
        config['loss'] = dict(type='castkd.IntraClassVariation')
        distiller = build(dict(ifvd=config))
        inputs, samples = batch()
        value = distiller(inputs, samples, mode='loss')['ifvd.loss_sup']
        maps = {}
        for name, network in (
            ('own', distiller.student),
            ('other', distiller.teachers['big'].model),
        ):
            hook = network.decode_head.conv_seg.register_forward_hook(
                lambda _, given, __, name=name: maps.update({name: given[0]})
            )
            network.decode_head(network.extract_feat(inputs['sup']))
            hook.remove()
        target = torch.cat([sample.gt_sem_seg.data for sample in samples['sup']])
        torch.testing.assert_close(
            value,
            IntraClassVariation()(
                **dict(student=maps['own'], teacher=maps['other'], target=target)
            ),
        )
        assert value > 0

    @pytest.mark.parametrize('name', ['LogitDistillation', 'IntraClassVariation'])
    def test_fully_ignored_crop(self, name):
        distiller = build(dict(kd={**KD, 'loss': dict(type=f'castkd.{name}'), 'labels': True}))
        value = total(distiller(*batch(label=255), mode='loss'))
        value.backward()
        assert value == 0
        assert distiller.student.backbone.conv1.weight.grad.isfinite().all()

    def test_targets_of_the_step_come_first(self):
        data = {'sup': [make_map_sample(np.zeros((4, 4)))]}
        step = step_of(None, None, data)
        assert label_maps(step, 'sup').unique().tolist() == [0]
        step.targets['sup'] = [make_map_sample(np.full((4, 4), 2))]
        assert label_maps(step, 'sup').unique().tolist() == [2]
        assert label_maps(step, 'sup').shape == (1, 4, 4)

    def test_repeated_view_has_the_labels_of_its_source(self):
        step = step_of(None, None, {'sup': [make_map_sample(np.ones((4, 4)))]})
        assert label_maps(step, 'sup#2').unique().tolist() == [1]

    def test_missing_and_uneven_labels_are_named(self):
        missing = step_of(None, None, {'sup': [make_map_sample(shape=(4, 4))]})
        with pytest.raises(
            DataError, match=r'image .* has no label map \(gt_sem_seg\); set labels'
        ):
            label_maps(missing, 'sup')
        sizes = [make_map_sample(np.zeros(size)) for size in ((4, 4), (4, 6))]
        with pytest.raises(DataError, match=r'several sizes \[\(4, 4\), \(4, 6\)\]'):
            label_maps(step_of(None, None, {'sup': sizes}), 'sup')


class TestViews:
    flipped = np.array([[-1, 0, 4], [0, 1, 0], [0, 0, 1]], dtype=np.float32)

    def step(self, matrix, images=1):
        samples = {
            'strong': [make_map_sample(np.zeros((4, 4)))],
            'weak': [make_map_sample(np.zeros((4, 4)), matrix=matrix)] * images,
        }
        own, other = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4)
        return step_of(own, other, samples, 'strong', 'weak')

    def test_teacher_may_see_another_view_of_the_same_pixels(self):
        pair = objective(views=[('strong', 'weak')], loss=AttentionTransfer())
        asked = {(request.network, request.view) for request in pair.passes()}
        assert asked == {('student', 'strong'), ('big', 'weak')}
        assert pair(self.step(np.eye(3, dtype=np.float32)))['loss_strong'] > 0

    @pytest.mark.parametrize(('matrix', 'images'), [(flipped, 1), (np.eye(3), 2)])
    def test_other_pixels_are_refused(self, matrix, images):
        pair = objective(views=[('strong', 'weak')], loss=AttentionTransfer())
        with pytest.raises(
            ConfigError, match=r"view 'weak' shows other pixels .* differ in colour"
        ):
            pair(self.step(matrix, images))

    def test_a_mix_of_images_is_compared_with_itself_only(self):
        step = self.step(np.eye(3, dtype=np.float32))
        step.carries['strong'] = torch.clone
        with pytest.raises(ConfigError, match=r"view 'weak' shows other pixels .* mixed"):
            objective(views=[('strong', 'weak')], loss=AttentionTransfer())(step)
        step.results['big', 'strong'] = step.results['big', 'weak']
        assert objective(views=['strong'], loss=AttentionTransfer())(step)['loss_strong'] > 0


class TestMistakes:
    def test_another_number_of_classes(self):
        distiller = build(dict(kd=KD), teacher=big_segmentor(num_classes=4))
        text = (
            "teacher 'big' on view 'sup': LogitDistillation: student has 3 channels and teacher 4"
        )
        with pytest.raises(ConfigError, match=f'{text}; logits need the same classes'):
            distiller(*batch(), mode='loss')

    def test_another_width_without_a_connector(self):
        distiller = build(dict(hint={**HINT, 'connector': None}))
        with pytest.raises(
            ConfigError, match=r'16 channels and teacher 24; .* castkd.ConvConnector'
        ):
            distiller(*batch(), mode='loss')

    def test_another_stride_is_refused_where_asked(self):
        distiller = build(dict(kd={**KD, 'resize': 'refuse'}), teacher=big_segmentor(stride=16))
        text = r'student has a map of \(2, 3\) and the teacher of \(4, 6\)'
        with pytest.raises(ConfigError, match=text):
            distiller(*batch(), mode='loss')

    @pytest.mark.parametrize(
        ('changes', 'text'),
        [
            ({'taps': 'decode_head.conv_sg'}, "no module 'decode_head.conv_sg'; did you mean"),
            ({'teacher': 'bgi'}, "called 'bgi'; did you mean 'big'"),
            ({'resize': 'smaller'}, r"resize must be one of \['larger', 'refuse', 'student'\]"),
            ({'teacher_taps': [LOGITS, FEATURE]}, 'taps has 1 paths and teacher_taps 2'),
            ({'taps': [LOGITS, FEATURE], 'connector': HINT['connector']}, '1 entries for 2 taps'),
            ({'connector': [None, None]}, 'connector has 2 entries for 1 taps'),
            ({'views': ['sup', ('sup', 'weak')]}, 'each view of the student once, got'),
            ({'views': []}, 'each view of the student once, got'),
            (
                {'loss': dict(type='castkd.HintLoss'), 'labels': True},
                'HintLoss compares maps without',
            ),
        ],
    )
    def test_wrong_config_is_named_when_it_is_built(self, changes, text):
        with pytest.raises(ConfigError, match=text):
            build(dict(kd={**KD, **changes}))

    @pytest.mark.parametrize(
        ('student', 'teacher', 'text'),
        [
            (torch.ones(2, 3), torch.ones(1, 2, 3, 4), r"tap 'a' must give a map .* got \(2, 3\)"),
            (torch.ones(1, 2, 3, 4), {'x': 1}, "tap 'b' must give a map .* got dict"),
            (torch.ones(1, 2, 3, 4), [torch.ones(1, 2, 3, 4)] * 2, "tap 'a' gives 1 maps and .* 2"),
            ([], [], "tap 'a' must give a map .* got NoneType"),
        ],
    )
    def test_wrong_tap_is_named(self, student, teacher, text):
        with pytest.raises(ConfigError, match=f"teacher 'big' on view 'sup': {text}"):
            objective(loss=Recorder())(step_of(student, teacher))
