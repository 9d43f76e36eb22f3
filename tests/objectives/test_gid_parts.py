"""The GID objective: runs that a step does without, pseudo-labels beside it, and centre-ness in the response."""

import copy

import pytest
import torch

from castkd.distiller import Distiller
from castkd.errors import ConfigError
from tests.builders import make_batch
from tests.detectors import tiny_detector
from tests.objectives.test_gid import (
    DENSE,
    adapter,
    make_distiller,
    own,
    teacher_file,  # noqa: F401 - a fixture
)


def test_unlabelled_images_of_weight_0_are_not_run(teacher_file):  # noqa: F811
    window = dict(type='Window', value=1.0, begin=1, end=2)
    distiller = make_distiller(
        teacher_file(), unlabeled_views=('unsup_teacher',), unlabeled_weight=window
    )
    views = [{item.view for item in distiller.plan(step)} for step in range(3)]
    assert views == [{'sup'}, {'sup', 'unsup_teacher'}, {'sup'}]
    seen = []
    backbone = distiller.teachers['big'].model.backbone
    backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    for _ in range(3):
        losses = distiller(*make_batch(['sup', 'unsup_teacher']), mode='loss')
        assert set(own(losses)) == DENSE
    assert seen == [2, 2, 2, 2]


def test_another_objective_may_need_the_run_that_is_left_out(teacher_file):  # noqa: F811
    gid = dict(
        type='castkd.GeneralInstanceDistillation',
        teacher='big',
        unlabeled_views=('unsup_teacher',),
        unlabeled_weight=0.0,
    )
    distiller = Distiller(
        tiny_detector(),
        teachers=dict(big=teacher_file()),
        objectives=dict(
            gid=gid, unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher', drop_empty=False)
        ),
    )
    runs = {(item.network, item.view): item.kind for item in distiller.plan()}
    assert runs == {
        ('big', 'sup'): 'dense',
        ('student', 'sup'): 'dense',
        ('student', 'unsup_teacher'): 'loss',
    }


def test_parts_without_any_run_are_idle(teacher_file):  # noqa: F811
    """Other processes wait for the adapter's gradient."""
    distiller = make_distiller(
        teacher_file(),
        views=(),
        unlabeled_views=('unsup_teacher',),
        unlabeled_weight=0.0,
        adapter=adapter(),
    )
    losses = distiller(*make_batch(['sup', 'unsup_teacher']), mode='loss')
    assert not own(losses)
    distiller._idle_parameters(0).backward()
    assert all(value.grad is not None for value in distiller.objectives['gid'].parameters())


@pytest.mark.parametrize('name', ['retinanet', 'mask_rcnn'])
def test_beside_pseudo_labels_each_network_still_runs_once(name, teacher_file):  # noqa: F811
    """The teacher labels the unlabelled images and is distilled on them in one run."""
    objectives = dict(
        sup=dict(type='castkd.Supervised'),
        unsup=dict(
            type='castkd.PseudoLabel',
            view='unsup_teacher',
            teacher='big',
            teacher_view='unsup_teacher',
            drop_empty=False,
        ),
        gid=dict(
            type='castkd.GeneralInstanceDistillation',
            teacher='big',
            unlabeled_views=('unsup_teacher',),
            selection=dict(min_size=4, iou_thr=0.9),
        ),
    )
    distiller = Distiller(
        tiny_detector(name),
        teachers=dict(big=teacher_file(name)),
        pseudo_labeler=dict(type='castkd.InstancePseudoLabeler', score_thr=0.0),
        objectives=objectives,
    )
    distiller.init_weights()
    distiller.train()
    runs = {(item.network, item.view): item.kind for item in distiller.plan()}
    assert runs == {
        ('big', 'sup'): 'dense',
        ('big', 'unsup_teacher'): 'predict',
        ('student', 'sup'): 'loss',
        ('student', 'unsup_teacher'): 'loss',
    }
    inputs, samples = make_batch(['sup', 'unsup_teacher'])
    for sample in samples['unsup_teacher']:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
    losses = distiller(inputs, samples, mode='loss')
    distiller.parse_losses(losses)[0].backward()
    assert {key.split('.')[0] for key in losses if 'loss' in key} == {'sup', 'unsup', 'gid'}
    assert len(distiller.objectives['gid'].last_instances['unsup_teacher']) == 2


# ---- centre-ness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['fcos', 'atss'])
def test_centreness_is_compared_when_asked(name, teacher_file):  # noqa: F811
    teacher = teacher_file(name)
    options = dict(supervised=False, class_weight=2.0)
    plain = make_distiller(teacher, name, **options).eval()
    asked = make_distiller(teacher, name, centerness=True, **options).eval()
    batch = make_batch(['sup'])
    first, second = (
        own(distiller(*copy.deepcopy(batch), mode='loss')) for distiller in (plain, asked)
    )
    assert set(second) - set(first) == {'loss_centerness'}
    objective = asked.objectives['gid']
    taps = [asked.last_step.results['big', 'sup'].taps['bbox_head']]
    with torch.no_grad():
        inputs = batch[0]['sup']
        taps.append(asked.student.bbox_head(asked.student.extract_feat(inputs)))
    chosen = torch.stack(
        [
            objective._pair.student.assign(
                item.boxes, objective._pair.student.read(taps[1]), sample.metainfo
            )
            for item, sample in zip(objective.last_instances['sup'], batch[1]['sup'], strict=True)
        ]
    )
    targets, values = (
        torch.cat([level.flatten(1) for level in tap[2]], dim=1)[chosen] for tap in taps
    )
    expected = torch.nn.functional.binary_cross_entropy_with_logits(values, targets.sigmoid())
    torch.testing.assert_close(second['loss_centerness'].detach(), 2 * expected)
    torch.testing.assert_close(first, {key: second[key] for key in first})


@pytest.mark.parametrize('name', ['retinanet', 'gfl'])
def test_centreness_that_a_head_has_not_is_refused(name, teacher_file):  # noqa: F811
    with pytest.raises(ConfigError, match='Head has no centre-ness; set centerness=False'):
        make_distiller(teacher_file(name), name, centerness=True)
