"""General instances: whose box, how many, where, and what is skipped."""

import pytest
import torch

from castkd.errors import ConfigError
from castkd.losses import candidate_slots, general_instances, select_general_instances
from castkd.losses.gid_selection import share_on_objects

TEACHER = torch.tensor([(0.9, 0.1), (0.2, 0.1), (0.6, 0.1), (0.3, 0.3)])
STUDENT = torch.tensor([(0.2, 0.85), (0.7, 0.1), (0.55, 0.1), (0.3, 0.1)])


def apart(count, side=20.0):
    """Return boxes that do not touch, in a row."""
    left = torch.arange(count) * (side + 5)
    return torch.stack([left, torch.zeros(count), left + side, torch.full((count,), side)], dim=1)


def slots(count=600, classes=3, size=200, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(2, count, classes, generator=generator)
    corner = torch.rand(2, count, 2, generator=generator) * size - 20
    sides = torch.rand(2, count, 2, generator=generator) * 80
    boxes = torch.cat([corner, corner + sides], dim=2)
    return scores[0].to(dtype), scores[1].to(dtype), boxes[0].to(dtype), boxes[1].to(dtype)


def overlap(first, second):
    corner = torch.maximum(first[:2], second[:2])
    shared = (torch.minimum(first[2:], second[2:]) - corner).clamp(min=0).prod()
    areas = [(box[2:] - box[:2]).prod() for box in (first, second)]
    return (shared / (sum(areas) - shared)).item()


def slow(scores_t, scores_s, boxes_t, boxes_s, shape, num, iou_thr, pre_nms, min_size, score_mode):
    """The selection with plain loops."""
    candidates = []
    for slot, (teacher, student) in enumerate(
        zip(scores_t.tolist(), scores_s.tolist(), strict=True)
    ):
        gaps = [abs(t - s) for t, s in zip(teacher, student, strict=True)]
        score = max(gaps) if score_mode == 'classwise' else abs(max(teacher) - max(student))
        box = boxes_t[slot] if max(teacher) > max(student) else boxes_s[slot]
        candidates.append((score, slot, box))
    candidates.sort(key=lambda item: (-item[0], item[1]))
    kept = []
    for score, slot, box in candidates[:pre_nms]:
        left, top, right, bottom = box.tolist()
        left, right = (min(max(value, 0), shape[1]) for value in (left, right))
        top, bottom = (min(max(value, 0), shape[0]) for value in (top, bottom))
        if right - left <= min_size or bottom - top <= min_size:
            continue
        box = torch.tensor([left, top, right, bottom])
        if all(overlap(box, other) <= iou_thr for _, _, other in kept):
            kept.append((score, slot, box))
    return kept[:num]


@pytest.mark.parametrize(
    ('score_mode', 'expected'),
    [('classwise', (0.75, 0.50, 0.20, 0.05)), ('maxdiff', (0.50, 0.05, 0.05, 0.00))],
)
def test_scores_and_whose_box(score_mode, expected):
    boxes_t, boxes_s = apart(4), apart(4) + torch.tensor([0.0, 30.0, 0.0, 30.0])
    found = general_instances(
        TEACHER, STUDENT, boxes_t, boxes_s, img_shape=(60, 200), score_mode=score_mode
    )
    assert found.scores.tolist() == pytest.approx(expected, abs=1e-6)
    order = found.slots.tolist()
    # Teacher, student, teacher; equal maxima are the student's.
    whose = torch.tensor([True, False, True, False])
    assert found.from_teacher.tolist() == whose[order].tolist()
    expected_boxes = torch.where(whose[:, None], boxes_t, boxes_s)[order]
    assert torch.equal(found.boxes, expected_boxes)


def test_public_form_gives_boxes_and_scores():
    boxes = apart(4)
    found = general_instances(TEACHER, STUDENT, boxes, boxes, (60, 200), num=2)
    chosen, scores = select_general_instances(TEACHER, STUDENT, boxes, boxes, (60, 200), num=2)
    assert torch.equal(chosen, found.boxes)
    assert torch.equal(scores, found.scores)
    assert len(found) == 2
    assert found.slots.tolist() == [0, 1]


@pytest.mark.parametrize('score_mode', ['classwise', 'maxdiff'])
@pytest.mark.parametrize('options', [(10, 0.3, 3000, 10), (4, 0.0, 50, 30), (300, 0.7, 100, 0)])
def test_equals_plain_loops(score_mode, options):
    inputs = slots(count=120, dtype=torch.float64)
    found = general_instances(*inputs, (150, 180), *options, score_mode)
    expected = slow(*inputs, (150, 180), *options, score_mode)
    assert found.slots.tolist() == [slot for _, slot, _ in expected]
    torch.testing.assert_close(
        found.boxes, torch.stack([box for _, _, box in expected]).double(), atol=1e-4, rtol=0
    )


def test_promises_of_every_selection():
    boxes, scores = select_general_instances(*slots(), img_shape=(150, 180))
    assert len(boxes) == 10
    assert (scores.diff() <= 0).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) > 10).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= 180).all()
    assert (boxes[:, 1::2] <= 150).all()
    for index, box in enumerate(boxes):
        assert all(overlap(box, other) <= 0.3 for other in boxes[:index])


def test_size_is_that_of_the_clipped_box_and_strict():
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 40.0],
            [20.0, 0.0, 31.0, 40.0],
            [95.0, 0.0, 140.0, 40.0],
            [40.0, 90.0, 80.0, 100.5],
        ]
    )
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6]])
    found = general_instances(
        scores, torch.zeros(4, 1), boxes, boxes, img_shape=(100, 100), min_size=10
    )
    assert found.slots.tolist() == [1]
    found = general_instances(
        scores, torch.zeros(4, 1), boxes, boxes, img_shape=(101, 140), min_size=10
    )
    assert found.slots.tolist() == [1, 2, 3]


def test_overlap_is_across_classes_and_the_better_one_stays():
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 4.0, 20.0, 24.0], [0.0, 15.0, 20.0, 35.0]])
    teacher = torch.tensor([[0.5, 0.0], [0.0, 0.9], [0.3, 0.0]])
    found = general_instances(teacher, torch.zeros(3, 2), boxes, boxes, (64, 64))
    # Slots 0 and 1 share 16 of 24 rows, 1 and 2 share 9 of 31.
    assert found.slots.tolist() == [1, 2]
    assert general_instances(
        teacher, torch.zeros(3, 2), boxes, boxes, (64, 64), iou_thr=9 / 31 - 0.01
    ).slots.tolist() == [1]


def test_candidates_are_cut_before_small_boxes_are_dropped():
    boxes = torch.cat([apart(2, side=5.0), apart(3) + 20])
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5]])
    found = general_instances(scores, 0 * scores, boxes, boxes, (200, 200), pre_nms=3)
    assert found.slots.tolist() == [2]


@pytest.mark.parametrize('options', [{}, dict(score_mode='maxdiff'), dict(gamma=0.5)])
def test_boxes_of_candidates_are_all_that_is_looked_at(options):
    scores_t, scores_s, *boxes = slots()
    scores_t[5] = torch.nan
    where = candidate_slots(scores_t, scores_s, pre_nms=40, **options)
    assert len(where) == (len(scores_t) if 'gamma' in options else 40)
    inputs = (scores_t, scores_s, *boxes)
    expected = general_instances(*inputs, (150, 180), pre_nms=40, **options)
    found = general_instances(
        *(value[where] for value in inputs), (150, 180), pre_nms=40, **options
    )
    assert torch.equal(where[found.slots], expected.slots)
    assert torch.equal(found.boxes, expected.boxes)


def test_identical_networks_do_not_disagree():
    scores, _, boxes, _ = slots()
    _, values = select_general_instances(scores, scores, boxes, boxes, img_shape=(150, 180))
    assert len(values) == 10
    assert not values.any()


def test_exchanging_the_networks_changes_nothing():
    scores_t, scores_s, boxes_t, boxes_s = slots()
    first = general_instances(scores_t, scores_s, boxes_t, boxes_s, (150, 180))
    second = general_instances(scores_s, scores_t, boxes_s, boxes_t, (150, 180))
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(first.from_teacher, ~second.from_teacher)


def test_slots_that_are_not_finite_are_skipped():
    scores = torch.tensor([[0.9], [0.8], [0.7], [0.6], [0.5]])
    other = torch.zeros(5, 1)
    boxes = apart(5)
    scores[0], other[1] = torch.nan, torch.inf
    boxes[2, 3] = torch.inf
    found = general_instances(scores, other, boxes, boxes, (60, 200))
    assert found.slots.tolist() == [3, 4]


def test_lowest_score_is_kept_unless_asked():
    scores = torch.tensor([[0.9], [0.3], [0.0]])
    boxes = apart(3)
    inputs = (scores, torch.zeros(3, 1), boxes, boxes, (60, 200))
    assert len(general_instances(*inputs)) == 3
    assert general_instances(*inputs, min_score=0.3).slots.tolist() == [0, 1]


@pytest.mark.parametrize(
    'inputs',
    [
        (torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0, 4), torch.zeros(0, 4)),
        (TEACHER, STUDENT, apart(4, side=8.0), apart(4, side=8.0)),
        (torch.full((4, 2), torch.nan), STUDENT, apart(4), apart(4)),
    ],
    ids=['no slot', 'all small', 'all nan'],
)
def test_nothing_left_is_empty(inputs):
    found = general_instances(*inputs, img_shape=(60, 200))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.slots.shape == found.from_teacher.shape == (0,)


def test_inputs_get_no_gradient_and_stay_as_they_are():
    inputs = [value.requires_grad_() for value in slots()]
    before = [value.detach().clone() for value in inputs]
    found = general_instances(*inputs, img_shape=(150, 180))
    assert not found.boxes.requires_grad
    assert not found.scores.requires_grad
    for value, old in zip(inputs, before, strict=True):
        assert torch.equal(value, old)


def test_half_precision(device):
    inputs = [value.to(device, torch.float16) for value in slots()]
    boxes, scores = select_general_instances(*inputs, img_shape=(150, 180))
    assert len(boxes) == len(scores) == 10


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        (dict(num=0), 'num must be an integer in'),
        (dict(iou_thr=1.5), 'iou_thr must be a number in'),
        (dict(pre_nms=0), 'pre_nms must be an integer in'),
        (dict(min_size=-1), 'min_size must be a number in'),
        (dict(min_score=2), 'min_score must be a number in'),
        (dict(score_mode='class'), "score_mode must be one of .* did you mean 'classwise'"),
        (dict(scores_s=STUDENT[:, :1]), r'same slots and classes, got \(4, 2\) and \(4, 1\)'),
        (dict(boxes_t=apart(3)), r'boxes_t must be \(4, 4\), one box per slot, got \(3, 4\)'),
        (dict(img_shape=(0, 5)), r'img_shape must be \(height, width\), got \(0, 5\)'),
    ],
)
def test_wrong_input_is_named(changes, text):
    inputs = dict(
        scores_t=TEACHER,
        scores_s=STUDENT,
        boxes_t=apart(4),
        boxes_s=apart(4),
        img_shape=(60, 200),
    )
    with pytest.raises(ConfigError, match=f'select_general_instances: .*{text}'):
        select_general_instances(**{**inputs, **changes})


def test_other_boxes_of_what_both_are_sure_of_count_with_gamma():
    """The score that the paper lacks, by hand: 0.1 + 0.5 * (1 - 1/3) * 0.9 above 0.2, where boxes agree."""
    teacher, student = torch.tensor([[0.9], [0.6], [0.9]]), torch.tensor([[0.8], [0.4], [0.85]])
    boxes = apart(3)
    # Moved by half of its width: 10 x 20 of 30 x 20 are common.
    other = boxes + torch.tensor([[10.0, 0, 10, 0], [0] * 4, [0] * 4])
    inputs = (teacher, student, boxes, other, (60, 200))
    assert general_instances(*inputs).slots.tolist() == [1, 0, 2]
    found = general_instances(*inputs, gamma=0.5)
    assert found.slots.tolist() == [0, 1, 2]
    torch.testing.assert_close(found.scores, torch.tensor([0.4, 0.2, 0.05]))


def test_share_of_a_box_on_objects():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5.0, 0, 15, 10], [40.0, 0, 50, 10], [3.0, 3, 3, 9]])
    objects = torch.tensor([[0.0, 0, 10, 20], [0.0, 0, 8, 10]])
    shares = share_on_objects(boxes, objects)
    torch.testing.assert_close(shares, torch.tensor([1.0, 0.5, 0.0, 0.0]))
    assert share_on_objects(boxes, objects[:0]).tolist() == [0.0] * 4
    assert share_on_objects(boxes[:0], objects).shape == (0,)
