"""Slots of dense heads: their order, their boxes, which of them belong to a set of boxes, and which networks fit."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from castkd.adapters import adapter_for
from castkd.errors import ConfigError
from castkd.heads import AnchorSlots, FCOSSlots, GFLSlots, check_same_geometry, slot_reader
from castkd.registry import build_model
from tests.detectors import DETECTORS, tiny_detector

SINGLE_STAGE = ['retinanet', 'fcos', 'atss', 'gfl']
META = dict(
    img_shape=(60, 50), pad_shape=(64, 64), ori_shape=(60, 50), scale_factor=(1.0, 1.0), img_id=0
)


def network(name='retinanet', **options):
    torch.manual_seed(0)
    model = build_model(tiny_detector(name, **options))
    model.init_weights()
    # First weights of a detector give nearly the same box and score everywhere.
    for parameter in getattr(model, 'rpn_head', getattr(model, 'bbox_head', None)).parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def run(model, size=64, images=2):
    with torch.no_grad():
        inputs = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(1))
        return adapter_for(model).dense(model, inputs, [])


def objects(boxes):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))


def every(slots):
    return torch.arange(len(slots.priors))


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('retinanet', AnchorSlots),
        ('atss', AnchorSlots),
        ('faster_rcnn', AnchorSlots),
        ('mask_rcnn', AnchorSlots),
        ('gfl', GFLSlots),
        ('fcos', FCOSSlots),
    ],
)
def test_every_family_has_its_reader(name, kind):
    model = network(name)
    reader = slot_reader(model, 'student')
    slots = reader.read(run(model))
    assert type(reader) is kind
    sizes = [16, 8, 4, 2, 1] if 'rcnn' in name else [8, 4, 2, 1, 1]
    assert slots.sizes == tuple((size, size) for size in sizes)
    anchors = {'retinanet': 9, 'faster_rcnn': 3, 'mask_rcnn': 3}.get(name, 1)
    classes = 1 if 'rcnn' in name else 2
    assert slots.logits.shape == (2, anchors * sum(size**2 for size in sizes), classes)
    assert slots.regression.shape[:2] == slots.logits.shape[:2]
    assert reader.strides == [4 * 2**level for level in range(7)][1 - ('rcnn' in name) :][:5]
    assert slots.strides.unique().tolist() == reader.strides


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize('name', SINGLE_STAGE)
def test_a_network_of_larger_images_is_read_in_pixels_of_the_smaller(name, training):
    model = network(name)
    outputs = run(model)
    # FCOS trains in strides; the network is the same.
    model.train(training)
    plain, scaled = (slot_reader(model, 'teacher', scale) for scale in (1.0, 2.0))
    slots, smaller = plain.read(outputs), scaled.read(outputs)
    assert scaled.strides == [stride / 2 for stride in plain.strides]
    assert torch.equal(2 * smaller.priors, slots.priors)
    assert torch.equal(smaller.logits, slots.logits)
    for image in range(2):
        boxes = plain.decode(slots, image, every(slots))
        torch.testing.assert_close(2 * scaled.decode(smaller, image, every(slots)), boxes)
    geometry = scaled.geometry()
    if name != 'fcos':
        anchors = model.bbox_head.prior_generator.base_anchors
        for found, values in zip(geometry['anchors'][0], anchors, strict=True):
            torch.testing.assert_close(torch.tensor(found), values / 2, atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match='teacher and teacher differ in strides'):
        check_same_geometry(plain, scaled)


def test_order_of_slots_is_cell_by_cell_and_anchor_by_anchor():
    model = network()
    scores, deltas = outputs = run(model)
    slots = slot_reader(model, 'student').read(outputs)
    image, row, column, anchor, label = 1, 2, 3, 5, 1
    slot = 8 * 8 * 9 + (row * 4 + column) * 9 + anchor
    assert slots.logits[image, slot, label] == scores[1][image, anchor * 2 + label, row, column]
    assert torch.equal(
        slots.regression[image, slot], deltas[1][image, 4 * anchor : 4 * anchor + 4, row, column]
    )
    centre = (slots.priors[slot, :2] + slots.priors[slot, 2:]) / 2
    assert centre.tolist() == pytest.approx([column * 16, row * 16], abs=1e-4)


@pytest.mark.parametrize('name', [*SINGLE_STAGE, 'faster_rcnn'])
def test_scores_and_boxes_are_those_of_the_heads_own_prediction(name):
    model = network(name)
    outputs = run(model)
    reader = slot_reader(model, 'student')
    slots = reader.read(outputs)
    head = reader.head
    if 'rcnn' in name:
        # mmdet's proposals are suppressed always: with a threshold of 1 none is.
        cfg = dict(
            nms_pre=5000,
            max_per_img=5000,
            nms=dict(type='nms', iou_threshold=1.0),
            min_bbox_size=-1,
        )
        found = head.predict_by_feat(*outputs, None, [META] * 2, ConfigDict(cfg), False)
    else:
        cfg = ConfigDict(nms_pre=5000, score_thr=0.0, min_bbox_size=-1)
        factors = outputs[2] if len(outputs) > 2 else None
        found = head.predict_by_feat(
            *outputs[:2], factors, [META] * 2, cfg, rescale=False, with_nms=False
        )
    for image, expected in enumerate(found):
        boxes = reader.decode(slots, image, every(slots))
        boxes = torch.stack(
            [boxes[:, i].clamp(0, META['img_shape'][1 - i % 2]) for i in range(4)], dim=1
        )
        count = len(boxes) * slots.logits.shape[2]
        assert len(expected) == count if 'rcnn' not in name else len(expected) > 0.9 * count
        keys = torch.cat([boxes, torch.zeros(len(boxes), 1)], dim=1)
        scores = slots.logits[image].sigmoid()
        if len(outputs) > 2:
            # mmdet multiplies with the centre-ness, of one anchor per cell.
            centreness = torch.cat([level[image].flatten() for level in outputs[2]])
            scores = scores * centreness.sigmoid()[:, None]
        for result in expected[:: max(1, len(expected) // 40)]:
            keys[:, 4] = scores[:, result.labels[0] if 'labels' in result else 0]
            wanted = torch.cat([result.bboxes[0], result.scores])
            assert (keys - wanted).abs().amax(dim=1).min() < 1e-3


def test_boxes_do_not_depend_on_whether_the_head_trains():
    model = network('fcos')
    reader = slot_reader(model, 'student')
    first = reader.read(run(model))
    model.bbox_head.train()
    second = reader.read(run(model))
    torch.testing.assert_close(first.regression, second.regression)
    assert first.regression.max() > 8


@pytest.mark.parametrize('name', DETECTORS)
def test_gradient_reaches_both_outputs_through_slots_and_boxes(name):
    model = network(name).train()
    reader = slot_reader(model, 'student')
    slots = reader.read(adapter_for(model).dense(model, torch.randn(2, 3, 64, 64), []))
    where = torch.tensor([0, 7, 30])
    boxes = reader.decode(slots, 1, where)
    assert boxes.shape == (3, 4)
    boxes.sum().backward(retain_graph=True)
    assert model.backbone.conv1.weight.grad.any()
    slots.logits.sum().backward()
    mask = torch.zeros(len(slots.priors), dtype=torch.bool)
    mask[where] = True
    assert torch.equal(reader.decode(slots, 1, mask), boxes)


# ---- which slots belong to boxes ------------------------------------------------------------------------------------


def test_anchor_that_is_an_object_is_marked():
    model = network()
    reader = slot_reader(model, 'student')
    slots = reader.read(run(model, size=128))
    meta = dict(META, img_shape=(128, 128), pad_shape=(128, 128))
    slot = (7 * 16 + 8) * 9 + 4
    chosen = reader.assign(slots.priors[slot][None], slots, meta)
    assert chosen[slot]
    corner = torch.maximum(slots.priors[:, :2], slots.priors[slot, :2])
    sides = (torch.minimum(slots.priors[:, 2:], slots.priors[slot, 2:]) - corner).clamp(min=0)
    areas = (slots.priors[:, 2:] - slots.priors[:, :2]).prod(dim=1)
    overlaps = sides.prod(dim=1) / (areas + areas[slot] - sides.prod(dim=1))
    assert torch.equal(chosen, overlaps >= 0.5)


def test_object_without_overlap_marks_its_best_anchors():
    model = network()
    reader = slot_reader(model, 'student')
    slots = reader.read(run(model))
    # 12 pixels high and 4 wide: no anchor is that small.
    chosen = reader.assign(torch.tensor([[20.0, 30.0, 24.0, 42.0]]), slots, META)
    overlaps = reader.head.assigner.iou_calculator(
        slots.priors, torch.tensor([[20.0, 30.0, 24.0, 42.0]])
    )[:, 0]
    assert overlaps.max() < 0.4
    assert torch.equal(chosen, overlaps == overlaps.max())


@pytest.mark.parametrize('name', DETECTORS)
def test_no_object_marks_nothing(name):
    model = network(name)
    reader = slot_reader(model, 'student')
    slots = reader.read(run(model))
    chosen = reader.assign(torch.zeros(0, 4), slots, META)
    assert chosen.shape == (len(slots.priors),)
    assert not chosen.any()


@pytest.mark.parametrize('name', SINGLE_STAGE)
def test_marks_are_the_positive_slots_of_the_heads_own_training(name):
    model = network(name)
    reader = slot_reader(model, 'student')
    slots = reader.read(run(model))
    boxes = [[2.0, 3.0, 30.0, 40.0], [20.0, 10.0, 48.0, 36.0]]
    head = reader.head
    counts = [height * width for height, width in slots.sizes]
    if name == 'fcos':
        labels, _ = head.get_targets(list(slots.priors.split(counts)), [objects(boxes)])
        expected = torch.cat(labels) < head.num_classes
    else:
        anchors, flags = head.get_anchors(list(slots.sizes), [META], device='cpu')
        targets = head.get_targets(anchors, flags, [objects(boxes)], [META])
        labels = targets[0] if name == 'retinanet' else targets[1]
        expected = torch.cat([level.flatten() for level in labels]) < head.num_classes
    chosen = reader.assign(torch.tensor(boxes), slots, META)
    assert torch.equal(chosen, expected)
    assert 0 < chosen.sum() < len(chosen) / 2


def test_proposal_slots_are_not_sampled():
    """The head's own training draws at most 128 positive anchors; the response covers all, without chance."""
    model = network('faster_rcnn', anchor_size=2)
    reader = slot_reader(model, 'student')
    slots = reader.read(run(model))
    state = torch.random.get_rng_state()
    boxes = slots.priors[torch.arange(30, 700, 60)]
    chosen = reader.assign(boxes, slots, META)
    assert torch.equal(state, torch.random.get_rng_state())
    overlaps = reader.head.assigner.iou_calculator(slots.priors, boxes)
    assert chosen[overlaps.amax(dim=1) >= 0.7].all()


def test_slots_in_the_padding_of_the_batch_are_not_marked():
    model = network()
    reader = slot_reader(model, 'student')
    slots = reader.read(run(model))
    box = torch.tensor([[30.0, 10.0, 62.0, 42.0]])
    whole = reader.assign(box, slots, dict(META, img_shape=(64, 64)))
    part = reader.assign(box, slots, dict(META, pad_shape=(64, 32)))
    columns = (slots.priors[:, 0] + slots.priors[:, 2]) / 2
    assert whole[columns > 32].any()
    assert not part[columns > 32].any()
    assert part.any()


# ---- what the response compares -------------------------------------------------------------------------------------


def test_regression_is_compared_as_the_head_trains_it():
    assert slot_reader(network('retinanet'), 's').delta_beta == 0
    assert slot_reader(network('faster_rcnn'), 's').delta_beta == 0
    config = tiny_detector('retinanet')
    config['bbox_head']['loss_bbox'] = dict(type='SmoothL1Loss', beta=0.1)
    assert slot_reader(build_model(config), 's').delta_beta == 0.1
    config['bbox_head'] |= dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss'))
    assert slot_reader(build_model(config), 's').delta_beta is None
    for name in ('fcos', 'atss', 'gfl'):
        reader = slot_reader(network(name), 's')
        assert reader.delta_beta is None
        boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
        moved = boxes + torch.tensor([[0.0], [5.0]])
        # GIoU of the second pair: 25 / 175 minus 50 / 225.
        expected = [0.0, 1 - 25 / 175 + 50 / 225]
        assert reader.box_distance(boxes, moved).tolist() == pytest.approx(expected, abs=1e-5)


def test_absolute_distances_of_boxes_are_summed():
    config = tiny_detector('retinanet')
    config['bbox_head'] |= dict(
        reg_decoded_bbox=True, loss_bbox=dict(type='L1Loss', loss_weight=2.0)
    )
    reader = slot_reader(build_model(config), 's')
    assert reader.delta_beta is None
    assert reader.box_distance(torch.zeros(2, 4), torch.ones(2, 4)).tolist() == [4.0, 4.0]


# ---- what fits ------------------------------------------------------------------------------------------------------


def changed(name, **changes):
    config = tiny_detector(name, **changes.pop('sizes', {}))
    for path, value in changes.items():
        part = config
        *parents, last = path.split('__')
        for key in parents:
            part = part[key]
        part[last] = value
    return build_model(config)


@pytest.mark.parametrize(
    ('name', 'changes', 'text'),
    [
        ('retinanet', dict(sizes=dict(num_classes=3)), 'number of classes: 2 and 3'),
        ('retinanet', dict(sizes=dict(first_level=2)), 'strides: .8, 16.* and .4, 8'),
        ('retinanet', dict(sizes=dict(anchor_size=3)), r'anchors: .*-22\.6.* and .*-16\.9'),
        (
            'retinanet',
            dict(bbox_head__bbox_coder__target_stds=[0.1] * 4),
            r'box coder: .*1\.0, 1\.0, 1\.0.* and .*0\.1, 0\.1, 0\.1',
        ),
        ('faster_rcnn', dict(sizes=dict(anchor_size=3)), 'anchors'),
    ],
)
def test_networks_of_another_geometry_are_refused(name, changes, text):
    student = slot_reader(changed(name), 'the student')
    teacher = slot_reader(changed(name, **changes), "teacher 'big'")
    with pytest.raises(
        ConfigError, match=f"^the student and teacher 'big' differ in {text}"
    ) as caught:
        check_same_geometry(student, teacher)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', DETECTORS)
def test_larger_network_of_the_same_geometry_fits(name):
    student = slot_reader(changed(name), 'the student')
    sizes = dict(depth=34, base_channels=16, channels=32)
    check_same_geometry(student, slot_reader(changed(name, sizes=sizes), 'the teacher'))


def test_heads_of_two_families_are_refused():
    with pytest.raises(ConfigError, match='differ in head: AnchorSlots and FCOSSlots'):
        check_same_geometry(
            slot_reader(changed('retinanet'), 'a'), slot_reader(changed('fcos'), 'b')
        )


def test_unknown_head_is_refused_with_what_there_is():
    model = changed('retinanet')
    model.bbox_head.__class__ = type('OwnHead', (type(model.bbox_head),), {})
    with pytest.raises(
        ConfigError, match=r'the student: RetinaNet has the head OwnHead; .*RetinaHead.*FCOSHead'
    ):
        slot_reader(model, 'the student')
    with pytest.raises(ConfigError, match='no dense head; slots are read from'):
        slot_reader(torch.nn.Linear(1, 1), 'the student')


def test_competing_classes_are_refused():
    loss = dict(type='CrossEntropyLoss', use_sigmoid=False)
    with pytest.raises(ConfigError, match=r'compete in a softmax; .*use_sigmoid=True'):
        slot_reader(changed('retinanet', bbox_head__loss_cls=loss), 'the student')


def test_assignment_by_more_than_boxes_is_refused():
    reader = slot_reader(changed('retinanet'), 'the student')
    reader.check_assignment()
    reader = slot_reader(
        changed('atss', train_cfg__assigner=dict(type='ATSSAssigner', topk=9, alpha=0.8)), 's'
    )
    with pytest.raises(ConfigError, match='without alpha; train_cfg has ATSSAssigner'):
        reader.check_assignment()
    reader = slot_reader(changed('gfl', train_cfg__assigner=dict(type='SimOTAAssigner')), 's')
    with pytest.raises(ConfigError, match=r'the slots that GFLHead would train on.*SimOTAAssigner'):
        reader.check_assignment()
    config = tiny_detector('retinanet')
    del config['train_cfg']
    with pytest.raises(ConfigError, match='train_cfg has no assigner'):
        slot_reader(build_model(config), 's').check_assignment()


RELATIVES = {
    'RetinaSepBNHead': ('retinanet', dict(num_ins=5)),
    'NASFCOSHead': ('fcos', {}),
    'LDHead': (
        'gfl',
        dict(loss_ld=dict(type='KnowledgeDistillationKLDivLoss', loss_weight=0.25, T=10)),
    ),
}


@pytest.mark.parametrize('kind', RELATIVES)
def test_relatives_of_the_heads_are_read_too(kind):
    """Their slots hold the boxes that mmdet predicts from them."""
    name, options = RELATIVES[kind]
    config = tiny_detector(name)
    config['bbox_head'] = {**config['bbox_head'], 'type': kind, **options}
    torch.manual_seed(0)
    model = build_model(config).eval()
    model.init_weights()
    outputs = run(model)
    reader = slot_reader(model, 'student')
    slots = reader.read(outputs)
    boxes = reader.decode(slots, 0, every(slots))
    found = model.bbox_head.predict_by_feat(
        *outputs,
        batch_img_metas=[{**META, 'img_shape': (64, 64)}] * 2,
        cfg=ConfigDict(nms_pre=-1, score_thr=0.0, max_per_img=5, min_bbox_size=-1),
        with_nms=False,
    )[0]
    clipped = boxes.clamp(min=0, max=64)
    nearest = (found.bboxes[:, None] - clipped[None]).abs().amax(dim=2).amin(dim=1)
    assert len(found) > 0
    assert (nearest < 1e-3).all()
