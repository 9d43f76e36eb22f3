"""What the GID objective tells of a step: statistics, the instances for pictures, and how they change in training."""

import copy

import pytest
import torch

from tests.builders import make_batch
from tests.objectives.test_gid import (
    NO_PART,
    make_distiller,
    own,
    teacher_file,  # noqa: F401 - a fixture
)


def test_statistics_say_whether_instances_show_objects(teacher_file):  # noqa: F811
    distiller = make_distiller(teacher_file(), supervised=False)
    found = distiller.objectives['gid'].last_instances
    for boxes, shares in (([0.0, 0, 64, 64], (1, 0)), ([62.0, 0, 64, 1], (0, 1))):
        inputs, samples = make_batch(['sup'])
        for sample in samples['sup']:
            sample.gt_instances = sample.gt_instances[:1]
            sample.gt_instances.bboxes = torch.tensor([boxes])
        losses = distiller(inputs, samples, mode='loss')
        assert (losses['gid.object_share'], losses['gid.background_share']) == shares
    assert found is not distiller.objectives['gid'].last_instances


def test_marks_are_the_instances_of_the_step(teacher_file):  # noqa: F811
    distiller = make_distiller(teacher_file(), supervised=False, unlabeled_views=('unsup_teacher',))
    distiller(*make_batch(['sup', 'unsup_teacher']), mode='loss')
    marks = distiller.objectives['gid'].marks()
    assert [item.view for item in marks] == ['sup', 'unsup_teacher']
    for item in marks:
        for places, instances in zip(
            item.instances, distiller.objectives['gid'].last_instances[item.view], strict=True
        ):
            assert torch.equal(places.bboxes, instances.boxes)
            assert torch.equal(places.scores, instances.scores)
            kinds = [item.kinds[label] for label in places.labels]
            assert kinds == ['teacher' if flag else 'student' for flag in instances.from_teacher]


def sure_of_some(network, seed=0):
    """Let the last layer of a RetinaNet give a few slots scores near 1 and most of them low ones."""
    torch.manual_seed(seed)
    torch.nn.init.normal_(network.bbox_head.retina_cls.weight, std=0.5)


def test_disagreement_starts_at_the_teachers_best_scores_and_falls(teacher_file):  # noqa: F811
    """A student that is sure of nothing lets the selection be the teacher's best; while it learns, the score falls.

    An expectation: the authors do not publish the course of the score.
    """
    options = {**NO_PART, 'class_weight': 1.0, 'selection': dict(min_size=4, iou_thr=0.7, num=100)}
    distiller = make_distiller(teacher_file(base_channels=8), supervised=False, **options).eval()
    teacher, student = distiller.teachers['big'].model, distiller.student
    sure_of_some(teacher)
    # Alike but for the last layer, which gives the 0.01 that every RetinaNet starts with: few steps are enough.
    student.load_state_dict(teacher.state_dict())
    last = student.bbox_head.retina_cls
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, -4.595)
    inputs, samples = make_batch(['sup'])
    with torch.no_grad():
        levels = teacher.bbox_head(teacher.extract_feat(inputs['sup']))[0]
    # Two classes: 9 anchors per cell have 18 scores.
    best = torch.cat([x.sigmoid().permute(0, 2, 3, 1).reshape(2, -1, 2).amax(2) for x in levels], 1)
    optimizer = torch.optim.Adam(last.parameters(), lr=0.03)
    scores = []
    for step in range(24):
        optimizer.zero_grad()
        losses = distiller(inputs, copy.deepcopy(samples), mode='loss')
        own(losses)['loss_cls'].backward()
        optimizer.step()
        scores.append(float(losses['gid.score']))
        if step == 0:
            for image, instances in enumerate(distiller.objectives['gid'].last_instances['sup']):
                assert instances.from_teacher.all()
                torch.testing.assert_close(
                    instances.scores, best[image, instances.slots] - 0.01, rtol=0, atol=1e-4
                )
                assert instances.scores[0] == pytest.approx(
                    float(best[image].max()) - 0.01, abs=0.02
                )
    assert scores[0] > 0.6
    assert scores[-1] < 0.6 * scores[0]
