"""Several teachers as one: matching by masks, votes of weight times score, their place in a distiller."""

import json

import pytest
import torch
from mmengine.structures import InstanceData

from castkd.errors import ConfigError, DataError
from castkd.registry import build_model
from castkd.structures import Pass
from castkd.teachers.merged import MergedTeacher, agreement_weights, merge_instances
from tests.builders import make_batch, tiny_mask2former, tiny_solov2


def found(labels, scores, spans, mask_scores=None):
    """Return instances whose masks are spans of a row of ten pixels."""
    masks = torch.zeros(len(spans), 1, 10, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[0, start:stop] = True
    instances = InstanceData(
        labels=torch.tensor(labels, dtype=torch.long), scores=torch.tensor(scores), masks=masks
    )
    if mask_scores is not None:
        instances.mask_scores = torch.tensor(mask_scores)
    return instances


def spans_of(instances):
    columns = [mask[0].nonzero()[:, 0].tolist() for mask in instances.masks]
    return [(item[0], item[-1] + 1) for item in columns]


def test_matched_masks_vote_and_scores_count_all_teachers():
    """Weights 0.3 and 0.1: votes are 0.18 and 0.08 for the object that both found."""
    first = found([0, 1], [0.6, 0.5], [(0, 4), (6, 10)], [0.9, 0.5])
    second = found([0, 0], [0.8, 0.4], [(0, 5), (8, 10)], [0.3, 0.7])
    merged = merge_instances([first, second], [0.3, 0.1])
    assert merged.labels.tolist() == [0, 1, 0]
    assert merged.scores.tolist() == pytest.approx([0.26 / 0.4, 0.15 / 0.4, 0.04 / 0.4])
    # Pixel 4 has 0.08 of 0.26, less than half.
    assert spans_of(merged) == [(0, 4), (6, 10), (8, 10)]
    assert merged.mask_scores[0].item() == pytest.approx((0.18 * 0.9 + 0.08 * 0.3) / 0.26)
    assert merged.bboxes[0].tolist() == [0, 0, 4, 1]


def test_the_heavier_vote_decides_a_pixel():
    first, second = found([0], [0.2], [(0, 4)]), found([0], [0.9], [(0, 6)])
    assert spans_of(merge_instances([first, second], [1.0, 1.0])) == [(0, 6)]
    assert spans_of(merge_instances([first, second], [9.0, 1.0])) == [(0, 4)]


def test_the_threshold_is_strict_and_each_teacher_gives_the_best_match():
    first = found([0], [0.9], [(0, 4)])
    half = found([0], [0.5], [(0, 2)])
    assert len(merge_instances([first, half], [1, 1], iou_thr=0.5)) == 2
    assert len(merge_instances([first, half], [1, 1], iou_thr=0.49)) == 1
    two = found([0, 0], [0.5, 0.4], [(0, 3), (0, 4)])
    merged = merge_instances([first, two], [1, 1])
    # The equal mask joins; the other one stays alone, though its score is higher.
    assert merged.scores.tolist() == pytest.approx([1.3 / 2, 0.5 / 2])


def test_one_teacher_or_equal_ones_change_nothing():
    only = found([0, 1], [0.9, 0.3], [(0, 4), (2, 9)])
    for merged in (
        merge_instances([only], [0.4]),
        merge_instances([only, only, only], [0.1, 0.5, 0.2]),
    ):
        assert torch.equal(merged.labels, only.labels)
        torch.testing.assert_close(merged.scores, only.scores)
        torch.testing.assert_close(merged.mask_scores, only.scores)
        assert torch.equal(merged.masks, only.masks)


def test_nothing_found_is_nothing():
    none = found([], [], [])
    merged = merge_instances([none, none], [1, 1])
    assert len(merged) == 0
    assert merged.masks.shape == (0, 1, 10)
    alone = merge_instances([none, found([0], [0.8], [(0, 3)])], [3, 1])
    assert alone.scores.tolist() == pytest.approx([0.2])


def test_agreement_is_the_share_of_paired_scores():
    """IoU 3/4 of scores 0.5 and 0.3, of 1.0 in all; the other class and the double pair with nothing."""
    first = found([0], [0.5], [(0, 4)])
    second = found([0, 1], [0.3, 0.2], [(0, 3), (0, 4)])
    assert agreement_weights([first, second]) == pytest.approx([0.6, 0.6])
    assert agreement_weights([first, second], iou_thr=0.75) == [1.0, 1.0]
    double = found([0, 0], [0.5, 0.5], [(0, 4), (0, 4)])
    assert agreement_weights([first, double]) == pytest.approx([1.0 / 1.5] * 2)


def test_who_stands_alone_weighs_nothing():
    first, second = found([0], [0.8], [(0, 4)]), found([0], [0.6], [(0, 4)])
    third, none = found([0], [1.0], [(5, 9)]), found([], [], [])
    weights = agreement_weights([first, second, third])
    assert weights == pytest.approx([0.5, 0.5, 0.0])
    merged = merge_instances([first, second, third], weights)
    assert spans_of(merged) == [(0, 4)]
    assert merged.scores.tolist() == pytest.approx([0.7])
    # Finding nothing is something to agree on.
    assert agreement_weights([none, none, third]) == pytest.approx([0.5, 0.5, 0.0])
    assert agreement_weights([none, first, third]) == [1.0, 1.0, 1.0]


def students(tmp_path):
    """Return configs of two different frozen teachers with checkpoints."""
    members = {}
    for name, network in (('queries', tiny_mask2former()), ('grid', tiny_solov2())):
        path = tmp_path / f'{name}.pth'
        meta = {'dataset_meta': {'classes': ('car', 'person')}}
        torch.save({'meta': meta, 'state_dict': build_model(network).state_dict()}, path)
        members[name] = dict(type='castkd.FrozenTeacher', model=network, checkpoint=str(path))
    members['grid']['model']['test_cfg'].update(score_thr=0.0, filter_thr=0.0)
    return members


def test_it_labels_in_the_step(tmp_path):
    metrics = tmp_path / 'metrics.json'
    metrics.write_text(json.dumps({'coco/segm_mAP': 0.2}))
    model = build_model(
        dict(
            type='castkd.Distiller',
            student=tiny_mask2former(),
            teachers=dict(
                both=dict(
                    type='castkd.MergedTeacher',
                    members=students(tmp_path),
                    weights=dict(queries=str(metrics), grid=0.1),
                )
            ),
            classes=('car', 'person'),
            pseudo_labeler=dict(type='castkd.InstancePseudoLabeler', score_thr=0.0),
            objectives=dict(unsup=dict(type='castkd.PseudoLabel', teacher='both')),
        )
    )
    teacher = model.teachers['both']
    teacher.load()
    teacher.connect(model.student, model.classes)
    assert teacher.weights == {'queries': 0.2, 'grid': 0.1}
    assert not teacher.moves
    inputs, samples = make_batch(['unsup_teacher', 'unsup_student'])
    total, log = model.parse_losses(model(inputs, samples, mode='loss'))
    assert torch.isfinite(total)
    assert log['pseudo.kept'] > 0
    assert not any(key.startswith('teachers.') for key in model.state_dict())
    origin = model.provenance()['both']
    assert origin['queries']['weight'] == 0.2
    assert len(origin['grid']['sha256']) == 64
    assert not any(value.requires_grad for value in teacher.model.parameters())
    before = teacher.fingerprint()
    next(iter(teacher.members['grid'].model.parameters())).data.add_(1)
    assert teacher.fingerprint() != before
    with pytest.raises(ConfigError, match='merges predictions and has nothing else to give'):
        teacher.run(Pass('both', 'unsup_teacher', 'encode'), inputs['unsup_teacher'], [])


def test_members_can_be_weighted_by_agreement(tmp_path):
    members = students(tmp_path)
    members['again'] = members['queries']
    teacher = MergedTeacher(members, 'agreement', student=build_model(tiny_mask2former()))
    teacher.name = 'all'
    teacher.load()
    teacher.connect(build_model(tiny_mask2former()), ('car', 'person'))
    inputs, samples = make_batch(['unsup_teacher'])
    request = Pass('all', 'unsup_teacher', 'predict', grad=False)
    views = inputs['unsup_teacher'], samples['unsup_teacher']
    result = teacher.run(request, *views)
    pairs = {name: member.predict(*views) for name, member in teacher.members.items()}
    for index, merged in enumerate(result.predictions):
        own = [found[index].pred_instances for found in pairs.values()]
        for item in own:
            item.masks = item.masks[:, :64, :64]
        weights = agreement_weights(own)
        wanted = merge_instances(own, weights)
        # The two that are one network agree, the third one hardly does.
        assert weights[0] == weights[2] > weights[1]
        torch.testing.assert_close(merged.pred_instances.scores, wanted.scores)
    assert teacher.provenance()['grid']['weight'] == 'agreement'
    with pytest.raises(ConfigError, match='three teachers or more, got 2'):
        MergedTeacher({key: members[key] for key in ('queries', 'grid')}, 'agreement')
    with pytest.raises(ConfigError, match=r"got 'agreed'\. did you mean 'agreement'"):
        MergedTeacher(members, 'agreed')


def test_members_that_move_are_in_the_checkpoint(tmp_path):
    members = students(tmp_path)
    members['grid'] = dict(type='castkd.EMATeacher', decay=0.5)
    model = build_model(
        dict(
            type='castkd.Distiller',
            student=tiny_mask2former(),
            teachers=dict(
                both=dict(
                    type='castkd.MergedTeacher',
                    members=members,
                    weights=dict(queries=1.0, grid=1.0),
                )
            ),
        )
    )
    assert model.teachers['both'].moves
    keys = [key for key in model.state_dict() if key.startswith('teachers.')]
    assert keys
    assert all(key.startswith('teachers.both.grid.') for key in keys)


def test_wrong_members_and_weights_are_one_line(tmp_path):
    members = students(tmp_path)
    with pytest.raises(ConfigError, match='weights must be those of two members or more'):
        MergedTeacher(members, dict(queries=1.0))
    with pytest.raises(ConfigError, match=r"weight of 'grid' must be"):
        MergedTeacher(members, dict(queries=1.0, grid=0.0))
    with pytest.raises(ConfigError, match='iou_thr must be'):
        MergedTeacher(members, dict(queries=1.0, grid=1.0), iou_thr=2)
    with pytest.raises(DataError, match=r"metrics of 'grid' .* does not exist"):
        MergedTeacher(members, dict(queries=1.0, grid=str(tmp_path / 'no.json')))
    path = tmp_path / 'metrics.json'
    path.write_text(json.dumps({'coco/bbox_mAP': 0.2}))
    with pytest.raises(DataError, match=r"no metric 'coco/segm_mAP'; did you mean 'coco/bbox_mAP'"):
        MergedTeacher(members, dict(queries=1.0, grid=str(path)))
