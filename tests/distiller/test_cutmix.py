"""CutMix in the step: masks, pairs, and what carries maps into the mixed view."""

import pytest
import torch

from castkd.distiller import CutMix, cutmix_masks
from castkd.distiller.cutmix import Mixture
from castkd.errors import ConfigError
from tests.builders import make_map_sample


def samples_of(paths, size=(16, 16), **meta):
    return [make_map_sample(torch.zeros(size).long(), img_path=path, **meta) for path in paths]


class TestMasks:
    def test_coverage_is_that_of_the_paper(self):
        masks = cutmix_masks(2000, (64, 64))
        assert masks.dtype == torch.bool
        share = masks.flatten(1).float().mean(1)
        assert share.mean() == pytest.approx(0.251, abs=0.006)
        assert share.std() == pytest.approx(0.069, abs=0.006)
        low, high = share.quantile(torch.tensor([0.05, 0.95])).tolist()
        assert (low, high) == pytest.approx((0.145, 0.372), abs=0.012)

    @pytest.mark.parametrize('size', [(97, 65), (1, 40), (513, 33)])
    def test_odd_sizes(self, size):
        assert cutmix_masks(3, size).shape == (3, 1, *size)

    def test_one_box_is_a_rectangle_of_its_area(self):
        masks = cutmix_masks(50, (100, 80), num_boxes=1, area=(0.3, 0.3))[:, 0]
        for mask in masks:
            height, width = mask.any(1).sum(), mask.any(0).sum()
            assert mask.sum() == height * width
            assert (mask.sum() / 8000).item() == pytest.approx(0.3, abs=0.02)

    def test_boxes_reach_every_border(self):
        masks = cutmix_masks(300, (20, 20), num_boxes=1)[:, 0]
        assert all(
            edge.any() for edge in (masks[:, 0], masks[:, -1], masks[..., 0], masks[..., -1])
        )

    def test_boxes_that_coincide_cancel(self, monkeypatch):
        """Two boxes of the same numbers lie on each other."""
        single = torch.rand(4, 5, 1)
        monkeypatch.setattr(torch, 'rand', lambda *_, **__: single.expand(4, 5, 2))
        assert not cutmix_masks(5, (30, 30), num_boxes=2).any()

    def test_a_generator_decides(self):
        first, again, other = (
            cutmix_masks(2, (30, 30), generator=torch.Generator().manual_seed(seed))
            for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    @pytest.mark.parametrize(
        ('options', 'text'),
        [
            (dict(num_boxes=0), 'num_boxes must be an integer in'),
            (dict(area=(0.0, 0.5)), r'area\[0\] must be a number in'),
            (dict(area=(0.5, 0.25)), r'area\[1\] must be a number in \[0.5, 1\], got 0.25'),
        ],
    )
    def test_wrong_options_are_named(self, options, text):
        with pytest.raises(ConfigError, match=text):
            CutMix(**options)


class TestMixture:
    def mixture(self, value):
        mask = torch.full((1, 1, 4, 4), value)
        return Mixture(mask, torch.tensor([0]), torch.tensor([1]))

    def test_a_constant_mask_takes_one_image(self):
        maps = torch.randn(2, 3, 4, 4)
        assert torch.equal(self.mixture(False)(maps), maps[:1])
        assert torch.equal(self.mixture(True)(maps), maps[1:])

    def test_labels_of_mixed_logits_are_mixed_labels(self):
        view = CutMix()
        derived = view(torch.randn(4, 3, 16, 16), samples_of('abcd'))
        logits = torch.randn(4, 5, 16, 16)
        assert torch.equal(derived.carry(logits).argmax(1), derived.carry(logits.argmax(1)))
        assert derived.carry(logits.argmax(1)).shape == (2, 16, 16)

    def test_maps_of_another_size_are_refused(self):
        with pytest.raises(ConfigError, match=r'maps of \(2, 2\) pixels .* mask of \(4, 4\)'):
            self.mixture(True)(torch.randn(2, 3, 2, 2))


class TestView:
    def test_every_pixel_comes_from_one_image_of_the_pair(self, device):
        inputs = torch.randn(6, 3, 16, 16, device=device)
        derived = CutMix()(inputs, samples_of('abcdef'))
        mask = derived.carry.mask
        assert derived.inputs.shape == (3, 3, 16, 16)
        assert 0 < mask.float().mean() < 1
        expected = torch.where(mask, inputs[3:], inputs[:3])
        assert torch.equal(derived.inputs, expected)

    @pytest.mark.parametrize(
        ('paths', 'second'),
        [('abcd', [2, 3]), ('abad', [3, 2]), ('abab', [3, 2]), ('abcabd', [4, 5, 3])],
    )
    def test_pairs_are_of_two_images(self, paths, second):
        derived = CutMix()(torch.randn(len(paths), 3, 8, 8), samples_of(paths, (8, 8)))
        mixture = derived.carry
        assert mixture.second.tolist() == second
        assert all(
            paths[one] != paths[other]
            for one, other in zip(mixture.first.tolist(), mixture.second.tolist(), strict=True)
        )

    def test_one_image_alone_is_paired_with_itself(self):
        derived = CutMix()(torch.randn(2, 3, 8, 8), samples_of('aa', (8, 8)))
        assert derived.inputs.shape == (1, 3, 8, 8)

    def test_an_odd_number_is_refused(self):
        with pytest.raises(ConfigError, match="'unsup_teacher' has 3 images"):
            CutMix()(torch.randn(3, 3, 8, 8), samples_of('abc', (8, 8)))

    def test_samples_carry_no_label_and_no_homography(self):
        samples = samples_of('ab')
        sample = CutMix()(torch.randn(2, 3, 16, 16), samples).samples[0]
        assert type(sample) is type(samples[0])
        assert 'gt_sem_seg' in samples[0]
        assert 'gt_sem_seg' not in sample
        assert 'homography_matrix' in samples[0].metainfo
        assert 'homography_matrix' not in sample.metainfo

    def test_the_larger_image_decides_what_is_padding(self):
        samples = samples_of('ab')
        samples[0].set_metainfo(dict(img_shape=(16, 10), padding_size=(0, 6, 0, 0)))
        samples[1].set_metainfo(dict(img_shape=(12, 16), padding_size=(0, 0, 0, 4)))
        sample = CutMix()(torch.randn(2, 3, 16, 16), samples).samples[0]
        assert sample.img_shape == (16, 16)
        assert sample.padding_size == (0, 0, 0, 0)
