"""The GID objective on unusual input: nothing selected, no labels, other views, and networks that do not fit."""

import copy

import pytest
import torch

from castkd.distiller import Distiller
from castkd.errors import ConfigError
from castkd.heads import RegionHeads, slot_reader
from castkd.objectives import GeneralInstanceDistillation
from tests.builders import make_batch, tiny_mask2former
from tests.detectors import DETECTORS, tiny_detector
from tests.objectives.test_gid import (
    DENSE,
    REGIONS,
    SELECTION,
    adapter,
    make_distiller,
    own,
    teacher_file,  # noqa: F401 - a fixture
)


@pytest.mark.parametrize('name', DETECTORS)
@pytest.mark.parametrize('selection', [dict(min_size=64), dict(min_score=1.0)])
def test_nothing_selected_is_a_connected_zero(name, selection, teacher_file):  # noqa: F811
    teacher = teacher_file(name)
    distiller = make_distiller(
        teacher, name, supervised=False, adapter=adapter(), selection=selection
    )
    losses = distiller(*make_batch(['sup']), mode='loss')
    assert losses['gid.instances'] == losses['gid.score'] == losses['gid.teacher_share'] == 0
    assert {*DENSE} <= set(own(losses))
    total = sum(own(losses).values())
    total.backward()
    assert total == 0
    # Other processes wait for these gradients.
    trained = {
        name: value.grad
        for name, value in distiller.named_parameters()
        if 'backbone' in name or 'neck' in name or 'adapter' in name
    }
    # The levels behind those that are pooled have no part in it.
    lacking = {name for name, value in trained.items() if value is None}
    assert not lacking, lacking
    assert all(value.isfinite().all() and not value.any() for value in trained.values())


@pytest.mark.parametrize('name', DETECTORS)
def test_labelled_image_without_objects(name, teacher_file):  # noqa: F811
    distiller = make_distiller(teacher_file(name), name, adapter=adapter())
    inputs, samples = make_batch(['sup'])
    for sample in samples['sup']:
        sample.gt_instances = sample.gt_instances[:0]
    losses = distiller(inputs, samples, mode='loss')
    total, _ = distiller.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert losses['gid.instances'] > 0


def test_slots_that_are_not_finite_are_skipped(teacher_file):  # noqa: F811
    distiller = make_distiller(teacher_file(), supervised=False)
    teacher = distiller.teachers['big'].model.bbox_head

    def spoil(_module, _inputs, output):
        scores, boxes = output
        scores[0][0, 0] = torch.nan
        boxes[1][:, :, 0] = torch.inf

    teacher.register_forward_hook(spoil)
    losses = distiller(*make_batch(['sup']), mode='loss')
    assert losses['gid.score'].isfinite()
    # Neither does the response read them, though boxes of other slots lie on their anchors.
    assert all(value.isfinite() for value in own(losses).values())
    for instances in distiller.objectives['gid'].last_instances['sup']:
        assert len(instances) > 0
        assert instances.boxes.isfinite().all()


def spoil_first(*outputs):
    """Return a hook that makes the first row of the outputs with these indices NaN."""

    def spoil(_module, _inputs, output):
        for index in outputs:
            # A mask head gives one tensor; the outputs of a dense head have levels.
            value = output if torch.is_tensor(output) else output[index]
            (value if torch.is_tensor(value) else value[0])[0] = torch.nan

    return spoil


@pytest.mark.parametrize(
    ('name', 'head', 'outputs', 'options'),
    [
        ('mask_rcnn', 'roi_head.bbox_head', (0,), {}),
        ('mask_rcnn', 'roi_head.bbox_head', (1,), {}),
        ('mask_rcnn', 'roi_head.mask_head', (0,), {}),
        ('fcos', 'bbox_head', (2,), dict(centerness=True)),
    ],
    ids=['classes of the RoI head', 'boxes of the RoI head', 'masks', 'centre-ness'],
)
def test_what_the_teacher_does_not_say_is_left_out(name, head, outputs, options, teacher_file):  # noqa: F811
    distiller = make_distiller(
        teacher_file(name), name, supervised=False, adapter=adapter(), **options
    )
    teacher = distiller.teachers['big'].model
    teacher.get_submodule(head).register_forward_hook(spoil_first(*outputs))
    losses = own(distiller(*make_batch(['sup']), mode='loss'))
    assert all(value.isfinite() for value in losses.values())


def test_an_unknown_roi_head_may_be_left_out(teacher_file, monkeypatch):  # noqa: F811
    monkeypatch.setattr(RegionHeads, 'heads', ())
    with pytest.raises(ConfigError, match='Set regions=False and mask_weight=0'):
        make_distiller(teacher_file('faster_rcnn'), 'faster_rcnn')
    distiller = make_distiller(
        teacher_file('faster_rcnn'), 'faster_rcnn', adapter=adapter(), regions=False, mask_weight=0
    )
    # Features come from the same levels, whoever is asked.
    assert distiller.objectives['gid']._pair.strides == [4, 8, 16, 32]
    losses = distiller(*make_batch(['sup']), mode='loss')
    distiller.parse_losses(losses)[0].backward()
    assert {'gid.loss_feature', 'gid.loss_cls'} <= set(losses)
    assert not any('roi' in name for name in own(losses))


def test_image_smaller_than_a_cell_of_the_coarsest_level(teacher_file):  # noqa: F811
    distiller = make_distiller(teacher_file(), adapter=adapter())
    inputs, samples = make_batch(['sup'], size=32)
    losses = distiller(inputs, samples, mode='loss')
    distiller.parse_losses(losses)[0].backward()
    assert all(value.isfinite() for value in own(losses).values())


def test_instances_stay_inside_the_image_and_not_its_padding(teacher_file):  # noqa: F811
    distiller = make_distiller(teacher_file(), supervised=False)
    inputs, samples = make_batch(['sup'])
    samples['sup'][0].set_metainfo(dict(img_shape=(30, 44)))
    distiller(inputs, samples, mode='loss')
    boxes = distiller.objectives['gid'].last_instances['sup'][0].boxes
    assert len(boxes)
    assert (boxes[:, 2] <= 44).all()
    assert (boxes[:, 3] <= 30).all()


# ---- unlabelled views -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['retinanet', 'mask_rcnn'])
def test_unlabelled_images_alone(name, teacher_file):  # noqa: F811
    options = dict(views=(), unlabeled_views=('unsup_teacher',), adapter=adapter())
    distiller = make_distiller(teacher_file(name), name, supervised=False, **options)
    inputs, samples = make_batch(['unsup_teacher'])
    for sample in samples['unsup_teacher']:
        sample.gt_instances = sample.gt_instances[:0]
    losses = distiller(inputs, samples, mode='loss')
    expected = {*DENSE, *REGIONS, 'loss_mask'} if name == 'mask_rcnn' else DENSE
    assert set(own(losses)) == expected
    assert not any(key.startswith('sup') for key in losses)
    total, _ = distiller.parse_losses(losses)
    total.backward()
    assert total > 0
    assert total.isfinite()


def view_losses(teacher, **options):
    distiller = make_distiller(teacher, supervised=False, **options).eval()
    return distiller, own(distiller(*make_batch(['sup', 'unsup_teacher']), mode='loss'))


def test_views_are_averaged_over_images_and_weighted(teacher_file):  # noqa: F811
    teacher = teacher_file()
    _, labelled = view_losses(teacher, views=('sup',))
    _, unlabelled = view_losses(teacher, views=('unsup_teacher',))
    _, both = view_losses(teacher, views=('sup',), unlabeled_views=('unsup_teacher',))
    for key in DENSE:
        torch.testing.assert_close(both[key], (labelled[key] + unlabelled[key]) / 2)
    ramp = dict(type='Linear', start=0.0, end=1.0, steps=4)
    distiller, at_start = view_losses(
        teacher, unlabeled_views=('unsup_teacher',), unlabeled_weight=ramp
    )
    for key in DENSE:
        torch.testing.assert_close(at_start[key], labelled[key] / 2)
    later = own(distiller(*make_batch(['sup', 'unsup_teacher']), mode='loss'))
    for key in DENSE:
        torch.testing.assert_close(later[key], (labelled[key] + unlabelled[key] / 4) / 2)


def test_teacher_may_see_other_colours_of_the_same_pixels(teacher_file):  # noqa: F811
    options = dict(views=(), unlabeled_views=[('unsup_student', 'unsup_teacher')])
    distiller = make_distiller(teacher_file(), supervised=False, **options)
    assert [(item.network, item.view) for item in distiller.plan()] == [
        ('big', 'unsup_teacher'),
        ('student', 'unsup_student'),
    ]
    inputs, samples = make_batch(['unsup_teacher', 'unsup_student'])
    assert set(own(distiller(inputs, samples, mode='loss'))) == DENSE
    samples['unsup_student'][0].set_metainfo(
        dict(homography_matrix=torch.diag(torch.tensor([2.0, 2.0, 1.0])).numpy())
    )
    with pytest.raises(ConfigError, match='shows other pixels'):
        distiller(inputs, samples, mode='loss')


def test_order_of_images_does_not_matter_to_their_instances(teacher_file):  # noqa: F811
    distiller = make_distiller(teacher_file(), supervised=False).eval()
    inputs, samples = make_batch(['sup'])
    found = []
    for order in ([0, 1], [1, 0]):
        batch = {'sup': inputs['sup'][order]}, {'sup': [samples['sup'][i] for i in order]}
        distiller(*batch, mode='loss')
        instances = distiller.objectives['gid'].last_instances['sup']
        found.append([instances[i].boxes for i in order])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_moving_teacher_is_a_teacher_too():
    distiller = make_distiller(dict(type='castkd.EMATeacher', decay=0.5), adapter=adapter())
    losses = distiller(*make_batch(['sup']), mode='loss')
    assert all(value.isfinite() for value in own(losses).values())


# ---- pyramids -------------------------------------------------------------------------------------------------------


def test_pyramids_of_other_widths_need_an_adapter(teacher_file):  # noqa: F811
    teacher = teacher_file(channels=32)
    distiller = make_distiller(teacher, adapter=adapter(16, 32))
    losses = distiller(*make_batch(['sup']), mode='loss')
    assert losses['gid.loss_feature'] > 0
    distiller = make_distiller(teacher)
    with pytest.raises(
        ConfigError, match=r"'big' has 32 channels and the student's, .* 16; set adapter"
    ):
        distiller(*make_batch(['sup']), mode='loss')


def test_two_stage_detectors_pool_from_the_levels_of_their_roi_head(teacher_file):  # noqa: F811
    for name, strides in (('faster_rcnn', [4, 8, 16, 32]), ('fcos', [8, 16, 32, 64, 128])):
        distiller = make_distiller(teacher_file(name), name)
        assert distiller.objectives['gid']._pair.strides == strides


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(views=()), 'must name each view of the student once, got .]'),
        (dict(unlabeled_views=('sup',)), 'must name each view of the student once'),
        (dict(selection=dict(nms=0.3)), "selection has no option 'nms'; .*'pre_nms'"),
        (dict(selection=dict(num=0)), 'num must be an integer in'),
        (dict(selection=dict(score_mode='max')), 'score_mode must be one of'),
        (dict(box_weight=-1), 'box_weight must be a number in'),
        (dict(feature_weight='0.1'), 'feature_weight must be a number in'),
        (dict(unlabeled_weight=dict(type='Line')), 'unlabeled_weight: no schedule of type'),
        (
            dict(feature_loss=dict(type='castkd.InstanceFeatureLoss', form='l1')),
            'form must be one of',
        ),
    ],
)
def test_wrong_option_is_named(options, text):
    with pytest.raises(ConfigError, match=text) as caught:
        GeneralInstanceDistillation(teacher='big', **options)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'options', 'text'),
    [
        ('retinanet', dict(num_classes=3), 'differ in number of classes: 2 and 3'),
        ('retinanet', dict(anchor_size=2), 'differ in anchors'),
        ('retinanet', dict(first_level=2), 'differ in strides'),
        ('faster_rcnn', dict(num_classes=3), 'differ in number of classes: 2 and 3'),
    ],
)
def test_networks_that_do_not_fit_are_refused_when_built(name, options, text, teacher_file):  # noqa: F811
    with pytest.raises(ConfigError, match=f"the student and teacher 'big' {text}") as caught:
        make_distiller(teacher_file(name, **options), name)
    assert '\n' not in str(caught.value)


def test_other_heads_and_teachers_are_refused_when_built(teacher_file):  # noqa: F811
    with pytest.raises(ConfigError, match='differ in head: AnchorSlots and FCOSSlots'):
        make_distiller(teacher_file('fcos'), 'retinanet')
    with pytest.raises(ConfigError, match="no teacher is called 'bog'; did you mean 'big'"):
        Distiller(
            tiny_detector(),
            teachers=dict(big=teacher_file()),
            objectives=dict(gid=GeneralInstanceDistillation('bog')),
        )
    # In the student's pixels a teacher of twice the image size has half of its strides.
    with pytest.raises(ConfigError, match=r'differ in strides: \[.*\] and \['):
        make_distiller(dict(teacher_file(), input_scale=2.0))
    assigner = dict(type='SimOTAAssigner')
    config = tiny_detector('gfl')
    config['train_cfg'] = dict(config['train_cfg'], assigner=assigner)
    with pytest.raises(
        ConfigError, match=r'the student: the response covers the slots .* SimOTAAssigner'
    ):
        Distiller(
            config,
            teachers=dict(big=teacher_file('gfl')),
            objectives=dict(gid=GeneralInstanceDistillation('big')),
        )
    # Without the response nothing is assigned.
    objective = GeneralInstanceDistillation('big', class_weight=0, box_weight=0)
    Distiller(config, teachers=dict(big=teacher_file('gfl')), objectives=dict(gid=objective))


def test_teacher_of_another_normalisation_sees_its_own_images(teacher_file):  # noqa: F811
    """A teacher with weights of Caffe reads BGR without division; the student's images are converted for it."""
    teacher = teacher_file()
    results = []
    for caffe in (False, True):
        config = copy.deepcopy(teacher)
        if caffe:
            config['model']['data_preprocessor'] |= dict(
                mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False
            )
        distiller = make_distiller(config, supervised=False).eval()
        if caffe:
            # The same network for images of the other form: its first convolution undoes the change.
            weight = distiller.teachers['big'].model.backbone.conv1.weight
            std = torch.tensor([58.395, 57.12, 57.375])
            weight.copy_((weight / std[None, :, None, None])[:, [2, 1, 0]])
        distiller(*make_batch(['sup']), mode='loss')
        results.append(distiller.last_step.results['big', 'sup'].taps)
    # Rounding decides between instances that are as good: what they are selected from is compared.
    for tap in ('neck', 'bbox_head'):
        torch.testing.assert_close(results[1][tap], results[0][tap], rtol=1e-3, atol=1e-4)


def test_teacher_may_see_larger_images(teacher_file):  # noqa: F811
    """Its pyramid starts a level later, so that both have the same cells; boxes are the student's."""
    levels = dict(num_levels=4, anchor_size=2)
    config = teacher_file(first_level=3, **levels)
    student = tiny_detector(first_level=2, **levels)
    images, samples = make_batch(['sup'])
    shape = images['sup'].shape[-2:]
    distiller = Distiller(
        student,
        teachers=dict(big={**config, 'input_scale': 2.0}),
        objectives=dict(
            gid=dict(
                type='castkd.GeneralInstanceDistillation',
                teacher='big',
                selection=SELECTION,
                adapter=adapter(),
            )
        ),
    )
    distiller.init_weights()
    losses = distiller(images, samples, mode='loss')
    assert set(own(losses)) == DENSE
    assert all(value.isfinite() and value > 0 for value in own(losses).values())
    taps = distiller.last_step['big', 'sup'].taps
    assert taps['neck'][0].shape[-2:] == (shape[0] // 4, shape[1] // 4)
    (found, *_) = distiller.objectives['gid'].last_instances['sup']
    chosen = found.boxes[found.from_teacher]
    assert len(chosen)
    # What the teacher says of the enlarged image alone, in pixels of the student's.
    teacher = distiller.teachers['big'].model
    larger = torch.nn.functional.interpolate(images['sup'][:1], scale_factor=2.0, mode='bilinear')
    with torch.no_grad():
        outputs = teacher.bbox_head(teacher.extract_feat(larger))
    reader = slot_reader(teacher, 'teacher')
    slots = reader.read(outputs)
    boxes = reader.decode(slots, 0, torch.arange(len(slots.priors))) / 2
    limits = boxes.new_tensor([shape[1], shape[0]] * 2)
    boxes = boxes.clamp(min=0).minimum(limits)
    nearest = (chosen[:, None] - boxes[None]).abs().amax(dim=2).amin(dim=1)
    assert (nearest < 1e-2).all()


def test_network_without_slots_is_refused_with_the_heads_that_have_them():
    teacher = dict(type='castkd.EMATeacher', decay=0.5)
    with pytest.raises(
        ConfigError, match=r'the student: Mask2Former has no dense head; .*RetinaHead.*FCOSHead'
    ) as caught:
        Distiller(
            tiny_mask2former(),
            teachers=dict(big=teacher),
            objectives=dict(gid=GeneralInstanceDistillation('big')),
        )
    assert '\n' not in str(caught.value)
