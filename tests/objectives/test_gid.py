"""The GID objective on tiny detectors: which part reaches what, what is selected, and what stays as it is."""

import copy

import pytest
import torch

from castkd.distiller import Distiller
from castkd.heads import rois_of
from castkd.heads.slots import AnchorSlots
from castkd.losses import general_instances, instance_feature_loss, relation_loss
from castkd.registry import build_model
from tests.builders import make_batch
from tests.detectors import DETECTORS, tiny_detector

PARTS = ('feature_weight', 'relation_weight', 'class_weight', 'box_weight', 'mask_weight')
NO_PART = dict.fromkeys(PARTS, 0.0)
DENSE = {'loss_feature', 'loss_relation', 'loss_cls', 'loss_reg'}
REGIONS = {'loss_roi_cls', 'loss_roi_reg'}
# Tiny images hold few boxes of more than 10 pixels that do not overlap.
SELECTION = dict(min_size=4, iou_thr=0.9, pre_nms=200)


def first_weights(network, seed):
    """Give a network weights whose heads do not say the same everywhere."""
    torch.manual_seed(seed)
    network.init_weights()
    for name, parameter in network.named_parameters():
        if 'head' in name and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.1 if parameter.dim() == 4 else 0.03)
        if name == 'bbox_head.conv_reg.bias':
            # FCOS cuts distances at 0: half of its first boxes would be empty, and no two empty ones overlap.
            torch.nn.init.ones_(parameter)


@pytest.fixture
def teacher_file(tmp_path):
    """Return a function that writes a teacher and gives its config."""

    def write(name='retinanet', seed=5, **options):
        config = tiny_detector(name, **{**dict(base_channels=16, channels=16), **options})
        teacher = build_model(config)
        first_weights(teacher, seed)
        path = tmp_path / 'teacher.pth'
        torch.save({'state_dict': teacher.state_dict(), 'meta': {}}, path)
        return dict(type='castkd.FrozenTeacher', model=config, checkpoint=str(path))

    return write


def make_distiller(teacher, name='retinanet', supervised=True, **options):
    """Return a distiller whose student's first weights depend on the family alone."""
    objectives = dict(sup=dict(type='castkd.Supervised')) if supervised else {}
    gid = dict(type='castkd.GeneralInstanceDistillation', teacher='big', selection=SELECTION)
    objectives['gid'] = {**gid, **options}
    distiller = Distiller(tiny_detector(name), teachers=dict(big=teacher), objectives=objectives)
    distiller.init_weights()
    student = build_model(tiny_detector(name))
    first_weights(student, 3)
    distiller.student.load_state_dict(student.state_dict())
    return distiller.train()


def adapter(channels=16, out_channels=16):
    identity = channels == out_channels
    return dict(
        type='castkd.ConvConnector',
        in_channels=channels,
        out_channels=out_channels,
        kernel_size=3,
        bias=True,
        identity=identity,
    )


def own(losses):
    """Return what the objective itself says."""
    return {name[4:]: value for name, value in losses.items() if name.startswith('gid.loss')}


def gradients(module):
    return {
        name
        for name, value in module.named_parameters()
        if value.grad is not None and value.grad.any()
    }


def roots(names):
    return {name.split('.')[0] for name in names}


@pytest.mark.parametrize('name', DETECTORS)
def test_a_step_trains_all_and_leaves_the_teacher(name, teacher_file):
    distiller = make_distiller(teacher_file(name), name, adapter=adapter())
    teacher = distiller.teachers['big']
    before = teacher.fingerprint()
    optimizer = torch.optim.SGD(distiller.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        losses = distiller(*make_batch(['sup']), mode='loss')
        expected = DENSE | (REGIONS if 'rcnn' in name else set())
        expected |= {'loss_mask'} if name == 'mask_rcnn' else set()
        assert set(own(losses)) == expected
        assert all(value.isfinite() and value >= 0 for value in own(losses).values())
        distiller.parse_losses(losses)[0].backward()
        optimizer.step()
    assert losses['gid.instances'] > 2
    assert 0 < losses['gid.score'] < 1
    assert 0 <= losses['gid.teacher_share'] <= 1
    assert losses['gid.class_excess'] > 0
    assert teacher.fingerprint() == before
    assert not any(module.training for module in teacher.model.modules())
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    assert {'objectives.gid.adapter.conv.weight', 'student.backbone.conv1.weight'} <= gradients(
        distiller
    )


@pytest.mark.parametrize('name', DETECTORS)
def test_objective_holds_no_network(name, teacher_file):
    distiller = make_distiller(teacher_file(name), name, adapter=adapter())
    keys = {key for key in distiller.state_dict() if not key.startswith('student.')}
    assert keys == {
        'step',
        'objectives.gid.adapter.conv.weight',
        'objectives.gid.adapter.conv.bias',
    }
    names = [name for name, _ in distiller.named_parameters()]
    assert len(names) == len({id(value) for value in distiller.parameters()})
    twin = copy.deepcopy(distiller)
    assert twin.objectives['gid']._pair.student.head is not distiller.student.get_submodule(
        distiller.objectives['gid']._pair.head
    )


# ---- what runs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['retinanet', 'mask_rcnn'])
def test_each_network_runs_once_and_the_teacher_without_its_second_stage(name, teacher_file):
    distiller = make_distiller(teacher_file(name), name, regions=False, mask_weight=0.0)
    teacher = distiller.teachers['big'].model
    head = 'rpn_head' if 'rcnn' in name else 'bbox_head'
    assert [(item.network, item.view, item.kind, item.taps) for item in distiller.plan()] == [
        ('big', 'sup', 'dense', ('neck', head)),
        ('student', 'sup', 'loss', ('neck', head)),
    ]
    calls = []
    for network in (teacher, distiller.student):
        for part in ('backbone', 'neck', head):
            getattr(network, part).register_forward_hook(lambda *_, part=part: calls.append(part))
    if 'rcnn' in name:
        teacher.roi_head.bbox_head.register_forward_hook(lambda *_: pytest.fail('ran'))
    distiller(*make_batch(['sup']), mode='loss')
    assert calls == 2 * ['backbone', 'neck', head]


def test_selection_is_that_of_both_networks_predictions(teacher_file):
    """The instances of a step, from the networks run by hand."""
    distiller = make_distiller(teacher_file(), supervised=False).eval()
    inputs, samples = make_batch(['sup'])
    distiller(inputs, samples, mode='loss')
    found = distiller.objectives['gid'].last_instances['sup']
    teacher = distiller.teachers['big'].model
    with torch.no_grad():
        answers = []
        for network in (teacher, distiller.student):
            scores, deltas = network.bbox_head(network.extract_feat(inputs['sup']))
            sizes = [level.shape[2:] for level in scores]
            anchors = torch.cat(network.bbox_head.prior_generator.grid_priors(sizes, device='cpu'))
            scores = torch.cat([s.permute(0, 2, 3, 1).reshape(2, -1, 2) for s in scores], dim=1)
            deltas = torch.cat([d.permute(0, 2, 3, 1).reshape(2, -1, 4) for d in deltas], dim=1)
            answers.append(
                (
                    scores.sigmoid(),
                    [network.bbox_head.bbox_coder.decode(anchors, d) for d in deltas],
                )
            )
    (scores_t, boxes_t), (scores_s, boxes_s) = answers
    for image in (0, 1):
        expected = general_instances(
            scores_t[image], scores_s[image], boxes_t[image], boxes_s[image], (64, 64), **SELECTION
        )
        assert len(found[image]) == len(expected) > 2
        torch.testing.assert_close(found[image].boxes, expected.boxes)
        assert torch.equal(found[image].slots, expected.slots)


def test_boxes_are_decoded_where_the_selection_looks(teacher_file, monkeypatch):
    decode, counts = AnchorSlots.decode, []
    monkeypatch.setattr(
        AnchorSlots, 'decode', lambda *args: counts.append(len(args[-1])) or decode(*args)
    )
    distiller = make_distiller(teacher_file(), supervised=False)
    distiller(*make_batch(['sup']), mode='loss')
    assert counts == [SELECTION['pre_nms']] * 4  # of two networks on two images


def test_labels_play_no_part_in_selection_and_losses(teacher_file):
    results = []
    for keep in (slice(None), slice(0, 0)):
        distiller = make_distiller(teacher_file(), supervised=False).eval()
        inputs, samples = make_batch(['sup'])
        for sample in samples['sup']:
            sample.gt_instances = sample.gt_instances[keep]
        losses = own(distiller(inputs, samples, mode='loss'))
        results.append((losses, distiller.objectives['gid'].last_instances['sup']))
    (first, boxes), (second, others) = results
    for one, other in zip(boxes, others, strict=True):
        assert torch.equal(one.boxes, other.boxes)
    torch.testing.assert_close(first, second)


def test_features_and_relations_are_those_of_the_pooled_pyramids(teacher_file):
    distiller = make_distiller(teacher_file(), supervised=False, adapter=adapter()).eval()
    inputs, samples = make_batch(['sup'])
    losses = distiller(inputs, samples, mode='loss')
    rois = rois_of([item.boxes for item in distiller.objectives['gid'].last_instances['sup']])
    extractor = build_model(
        dict(
            type='mmdet.SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=10, sampling_ratio=2),
            out_channels=16,
            featmap_strides=[8, 16, 32, 64, 128],
            finest_scale=112,
        )
    )
    with torch.no_grad():
        student = extractor(distiller.student.extract_feat(inputs['sup']), rois)
        teacher = extractor(distiller.teachers['big'].model.extract_feat(inputs['sup']), rois)
    # The adapter starts as the identity.
    expected = 5e-4 * instance_feature_loss(student, teacher)
    torch.testing.assert_close(losses['gid.loss_feature'].detach(), expected)
    expected = 40 * relation_loss(student, teacher)
    torch.testing.assert_close(losses['gid.loss_relation'].detach(), expected)


@pytest.mark.parametrize('name', DETECTORS)
def test_identical_networks_do_not_disagree(name, teacher_file):
    teacher = teacher_file(name, base_channels=8)
    distiller = make_distiller(teacher, name, supervised=False, adapter=adapter())
    distiller.student.load_state_dict(distiller.teachers['big'].model.state_dict())
    losses = distiller.eval()(*make_batch(['sup']), mode='loss')
    assert losses['gid.score'] == 0
    entropies = {'loss_cls', 'loss_mask'}
    for key, value in own(losses).items():
        assert value.item() == pytest.approx(0, abs=1e-6) or key in entropies, key
    assert losses['gid.loss_cls'] > 0
    assert losses['gid.class_excess'].item() == pytest.approx(0, abs=1e-6)


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', DETECTORS)
@pytest.mark.parametrize('part', ['feature_weight', 'relation_weight'])
def test_features_reach_adapter_pyramid_and_backbone_alone(name, part, teacher_file):
    options = {**NO_PART, part: 1.0, 'adapter': adapter()}
    distiller = make_distiller(teacher_file(name), name, supervised=False, **options)
    sum(own(distiller(*make_batch(['sup']), mode='loss')).values()).backward()
    assert roots(gradients(distiller.student)) == {'backbone', 'neck'}
    assert gradients(distiller.objectives['gid']) == {'adapter.conv.weight', 'adapter.conv.bias'}


@pytest.mark.parametrize('name', DETECTORS)
@pytest.mark.parametrize(
    ('part', 'others'),
    [('class_weight', {'reg', 'box_reg', 'fc_reg'}), ('box_weight', {'cls', 'rpn_cls', 'fc_cls'})],
)
def test_response_reaches_heads_pyramid_and_backbone(name, part, others, teacher_file):
    options = {**NO_PART, part: 1.0, 'adapter': adapter()}
    distiller = make_distiller(teacher_file(name), name, supervised=False, **options)
    assert distiller.objectives['gid'].adapter is None
    sum(own(distiller(*make_batch(['sup']), mode='loss')).values()).backward()
    found = gradients(distiller.student)
    heads = {'rpn_head', 'roi_head'} if 'rcnn' in name else {'bbox_head'}
    assert roots(found) == {'backbone', 'neck', *heads}
    final = {name.split('.')[-2] for name in found if 'head' in name}
    assert not final & others, 'the other output of the head has no part in it'


def test_mask_response_reaches_the_mask_head(teacher_file):
    options = {**NO_PART, 'mask_weight': 1.0}
    distiller = make_distiller(teacher_file('mask_rcnn'), 'mask_rcnn', supervised=False, **options)
    # A teacher that is unsure of every object says nothing about masks.
    torch.nn.init.constant_(distiller.teachers['big'].model.roi_head.bbox_head.fc_cls.bias[:2], 2.0)
    losses = distiller(*make_batch(['sup']), mode='loss')
    assert set(own(losses)) == {'loss_mask'}
    losses['gid.loss_mask'].backward()
    found = gradients(distiller.student)
    assert roots(found) == {'backbone', 'neck', 'roi_head'}
    assert {name.split('.')[1] for name in found if name.startswith('roi_head')} == {'mask_head'}
    torch.nn.init.constant_(distiller.teachers['big'].model.roi_head.bbox_head.fc_cls.bias[2:], 9.0)
    assert distiller(*make_batch(['sup']), mode='loss')['gid.loss_mask'] == 0


def test_boxes_carry_no_gradient(teacher_file):
    """What the regression branch says decides which boxes are pooled, and gets no gradient from that."""
    options = {**NO_PART, 'feature_weight': 1.0, 'relation_weight': 1.0}
    distiller = make_distiller(teacher_file(), supervised=False, **options)
    head = distiller.student.bbox_head
    for parameter in head.parameters():
        parameter.grad = None
    losses = own(distiller(*make_batch(['sup']), mode='loss'))
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in head.parameters())
    for instances in distiller.objectives['gid'].last_instances['sup']:
        assert not instances.boxes.requires_grad


# ---- switches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        (dict(proposals=False), {'loss_feature', 'loss_relation', 'loss_mask', *REGIONS}),
        (dict(regions=False), {*DENSE, 'loss_mask'}),
        (dict(regions=False, mask_weight=0), DENSE),
        (dict(class_weight=0), {*DENSE, *REGIONS, 'loss_mask'} - {'loss_cls', 'loss_roi_cls'}),
        (dict(box_weight=0), {*DENSE, *REGIONS, 'loss_mask'} - {'loss_reg', 'loss_roi_reg'}),
        (dict(feature_weight=0), {*DENSE, *REGIONS, 'loss_mask'} - {'loss_feature'}),
    ],
)
def test_parts_are_switched(options, names, teacher_file):
    distiller = make_distiller(teacher_file('mask_rcnn'), 'mask_rcnn', **options)
    assert set(own(distiller(*make_batch(['sup']), mode='loss'))) == names


def test_weights_multiply(teacher_file):
    results = []
    for factor in (1, 3):
        weights = dict(zip(PARTS, (5e-4, 40.0, 0.1, 1.0, 1.0), strict=True))
        weights = {name: factor * value for name, value in weights.items()}
        distiller = make_distiller(teacher_file('mask_rcnn'), 'mask_rcnn', **weights).eval()
        results.append(own(distiller(*make_batch(['sup']), mode='loss')))
    torch.testing.assert_close({key: 3 * value for key, value in results[0].items()}, results[1])


@pytest.mark.parametrize('name', ['retinanet', 'fcos', 'mask_rcnn'])
@pytest.mark.parametrize('options', [NO_PART, dict(weight=0.0)], ids=['parts', 'objective'])
def test_without_weights_training_is_plain_training(name, options, teacher_file):
    distiller = make_distiller(teacher_file(name), name, adapter=adapter(), **options)
    plain = build_model(tiny_detector(name))
    plain.load_state_dict(distiller.student.state_dict())
    plain.train()
    assert {item.network for item in distiller.plan()} == {'student'}
    ours = torch.optim.SGD(distiller.student.parameters(), lr=1e-2)
    theirs = torch.optim.SGD(plain.parameters(), lr=1e-2)
    for step in range(2):
        for optimizer in (ours, theirs):
            optimizer.zero_grad()
        torch.manual_seed(step)
        losses = distiller(*make_batch(['sup']), mode='loss')
        distiller.parse_losses(losses)[0].backward()
        ours.step()
        torch.manual_seed(step)
        inputs, samples = make_batch(['sup'])
        distiller.parse_losses(plain.loss(inputs['sup'], samples['sup']))[0].backward()
        theirs.step()
    assert not own(losses)
    for key, value in plain.state_dict().items():
        assert torch.equal(distiller.student.state_dict()[key], value), key


@pytest.mark.parametrize('name', ['retinanet', 'mask_rcnn'])
def test_student_runs_as_it_does_alone(name, teacher_file):
    """What is trained is a plain detector; beside GID its own losses are the same."""
    distiller = make_distiller(teacher_file(name), name, adapter=adapter())
    alone = build_model(tiny_detector(name))
    alone.load_state_dict(distiller.student.state_dict())
    alone.train()
    torch.manual_seed(1)
    losses = distiller(*make_batch(['sup']), mode='loss')
    torch.manual_seed(1)
    inputs, samples = make_batch(['sup'])
    for key, value in alone.loss(inputs['sup'], samples['sup']).items():
        torch.testing.assert_close(losses[f'sup.{key}'], value, rtol=0, atol=0)
    for key, value in alone.state_dict().items():
        assert torch.equal(distiller.student.state_dict()[key], value), key
    for sample in samples['sup']:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    found = [
        network.eval().predict(inputs['sup'], copy.deepcopy(samples['sup']), rescale=False)
        for network in (distiller.student, alone)
    ]
    for one, other in zip(*found, strict=True):
        assert torch.equal(one.pred_instances.bboxes, other.pred_instances.bboxes)
