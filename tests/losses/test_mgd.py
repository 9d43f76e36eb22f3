"""Image and region level of multi-granularity distillation: numbers, plain loops and invariances."""

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.losses import ImageSemanticLoss, RegionContentLoss
from castkd.losses.mgd import _correlations
from tests.losses.contract import LossContract


def wave(function, step, *shape):
    """Return function(step * k) for k = 0, 1, ... in row-major order, in double precision."""
    count = torch.Size(shape).numel()
    return function(step * torch.arange(count, dtype=torch.float64)).reshape(shape)


class TestImageContract(LossContract):
    trained = ('student_logits',)
    targets = ('teacher_logits',)

    def build(self):
        return ImageSemanticLoss()

    def inputs(self):
        torch.manual_seed(1)
        return {
            'student_logits': torch.randn(2, 3, 4, 5),
            'teacher_logits': torch.randn(2, 3, 6, 5),
        }

    def bad_calls(self):
        return [
            ({'student_logits': torch.ones(2, 3)}, r'student must be \(B, C, h, w\)'),
            ({'teacher_logits': torch.ones(2, 3, 4)}, r'got \(2, 3, 4\)'),
            ({'teacher_logits': torch.ones(2, 4, 4, 5)}, 'has 3 channels and teacher 4'),
            ({'teacher_logits': torch.ones(1, 3, 4, 5)}, r'batch \(2,\) like student, got \(1,\)'),
        ]


class TestRegionContract(LossContract):
    trained = ('student_feature',)
    targets = ('teacher_feature',)

    def build(self):
        return RegionContentLoss(grid=3)

    def inputs(self):
        torch.manual_seed(1)
        return {
            'student_feature': torch.randn(2, 4, 5, 6),
            'teacher_feature': torch.randn(2, 6, 7, 4),
        }

    def bad_calls(self):
        return [
            ({'student_feature': torch.ones(2, 3)}, r'student must be \(B, C, h, w\)'),
            ({'teacher_feature': torch.ones(3, 6, 4, 5)}, r'batch \(2,\) like student, got \(3,\)'),
        ]


class TestImage:
    def test_number(self, device):
        student, teacher = wave(torch.sin, 0.1, 2, 3, 4, 5), wave(torch.cos, 0.1, 2, 3, 4, 5)
        loss = ImageSemanticLoss()(student.to(device), teacher.to(device))
        # The sum over a batch of two; the mean over the batch is half of it.
        assert loss.item() == pytest.approx(4.2750986935, abs=1e-9)
        assert loss.item() / 2 == pytest.approx(2.1375493468, abs=1e-9)

    def test_zero_for_equal_logits(self):
        logits = wave(torch.sin, 0.1, 2, 3, 4, 5)
        assert ImageSemanticLoss()(logits, logits) == 0

    def test_a_constant_counts_and_places_do_not(self):
        student, teacher = wave(torch.sin, 0.1, 2, 3, 4, 5), wave(torch.cos, 0.1, 2, 3, 4, 5)
        loss = ImageSemanticLoss()
        value = loss(student, teacher)
        assert (loss(student + 3, teacher) - value).abs() > 1
        # What the other levels read of the logits does not change.
        labels = teacher.argmax(1)
        assert torch.equal((student + 3).argmax(1), student.argmax(1))
        torch.testing.assert_close(
            F.cross_entropy(student + 3, labels), F.cross_entropy(student, labels)
        )
        moved = student.flatten(2)[..., torch.randperm(20)].reshape(student.shape)
        torch.testing.assert_close(loss(moved, teacher), value)

    def test_gradient_is_a_sign_over_the_pixels(self):
        student = wave(torch.sin, 0.1, 2, 3, 4, 5).requires_grad_()
        teacher = wave(torch.cos, 0.1, 2, 3, 4, 5)
        ImageSemanticLoss()(student, teacher).backward()
        sign = (student - teacher).mean((2, 3), keepdim=True).sign()
        torch.testing.assert_close(student.grad, (sign / 20).expand_as(student))

    def test_a_batch_twice_changes_nothing(self):
        student, teacher = wave(torch.sin, 0.1, 2, 3, 4, 5), wave(torch.cos, 0.1, 2, 3, 4, 5)
        twice = ImageSemanticLoss()(torch.cat([student] * 2), torch.cat([teacher] * 2))
        torch.testing.assert_close(twice, ImageSemanticLoss()(student, teacher))


class TestRegion:
    @pytest.mark.parametrize(
        ('student', 'expected'),
        [
            (wave(torch.sin, 0.1, 2, 8, 14, 14), 1.0335988966),
            (wave(torch.sin, 0.05, 2, 6, 21, 28), 1.0323907284),
        ],
        ids=['other channels and size', 'same shape'],
    )
    def test_number(self, device, student, expected):
        teacher = wave(torch.cos, 0.07, 2, 6, 21, 28)
        loss = RegionContentLoss()(student.to(device), teacher.to(device))
        assert loss.item() == pytest.approx(expected, abs=1e-9)

    def test_zero_for_equal_features(self):
        feature = wave(torch.sin, 0.1, 2, 8, 14, 14)
        assert RegionContentLoss()(feature, feature) == 0

    def test_scale_and_rotation_of_channels_do_not_count(self):
        feature = wave(torch.sin, 0.1, 2, 8, 14, 14)
        rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
        rotated = torch.einsum('dc,bchw->bdhw', rotation, feature)
        assert RegionContentLoss()(3.7 * feature, feature) < 1e-28
        assert RegionContentLoss()(rotated, feature) < 1e-28
        assert RegionContentLoss()(feature + 1, feature) > 1e-3

    def test_against_a_loop(self):
        torch.manual_seed(0)
        student, teacher = torch.randn(2, 3, 9, 10).double(), torch.randn(2, 5, 4, 6).double()
        maps = [F.adaptive_avg_pool2d(item, 3).flatten(2) for item in (student, teacher)]
        total = 0.0
        for image in range(2):
            for i in range(9):
                for j in range(9):
                    cosines = [
                        F.cosine_similarity(item[image, :, i], item[image, :, j], dim=0)
                        for item in maps
                    ]
                    total += (cosines[0] - cosines[1]) ** 2
        loss = RegionContentLoss(grid=3)(student, teacher)
        assert loss.item() == pytest.approx(total.item() / (2 * 81), abs=1e-12)

    def test_correlations_are_cosines(self):
        signed = _correlations(torch.randn(2, 4, 9, 9, dtype=torch.float64), 3)
        assert signed.shape == (2, 9, 9)
        torch.testing.assert_close(signed, signed.mT)
        torch.testing.assert_close(signed.diagonal(dim1=1, dim2=2), torch.ones(2, 9).double())
        assert -1 <= signed.min() < 0
        assert signed.max() <= 1 + 1e-12
        assert (_correlations(torch.randn(2, 4, 9, 9).relu(), 3) >= 0).all()

    def test_features_of_rectifiers_stay_below_one(self):
        feature = torch.rand(2, 4, 9, 9)
        assert RegionContentLoss()(feature, torch.rand(2, 6, 9, 9)) <= 1

    def test_regions_that_are_zero_give_no_nan(self, device):
        feature = torch.zeros(1, 4, 14, 14, device=device)
        feature[..., :7] = 1
        feature.requires_grad_()
        loss = RegionContentLoss()(feature, torch.rand(1, 4, 14, 14, device=device))
        loss.backward()
        assert loss.isfinite()
        assert feature.grad.isfinite().all()

    @pytest.mark.parametrize('size', [(3, 5), (129, 129), (25, 17)])
    def test_every_size_is_pooled(self, size):
        loss = RegionContentLoss()(torch.rand(1, 4, *size), torch.rand(1, 6, 8, 8))
        assert 0 < loss < 4

    def test_a_batch_twice_changes_nothing(self):
        student, teacher = wave(torch.sin, 0.1, 2, 8, 14, 14), wave(torch.cos, 0.07, 2, 6, 21, 28)
        twice = RegionContentLoss()(torch.cat([student] * 2), torch.cat([teacher] * 2))
        torch.testing.assert_close(twice, RegionContentLoss()(student, teacher))

    @pytest.mark.parametrize('grid', [0, 2.5])
    def test_a_wrong_grid_is_named(self, grid):
        with pytest.raises(ConfigError, match='grid must be an integer in'):
            RegionContentLoss(grid=grid)
