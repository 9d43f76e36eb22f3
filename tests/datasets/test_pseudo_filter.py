import pytest
import torch

from castkd.datasets.pseudo_filter import (
    FilterOptions,
    filter_instances,
    resolve_overlaps,
    select_instances,
)
from castkd.errors import ConfigError


def row_masks(*rows):
    """Return masks of one row of pixels from strings such as '110'."""
    return torch.tensor([[[pixel == '1' for pixel in row]] for row in rows])


def apart(number):
    """Return masks of one pixel each that do not overlap."""
    return torch.eye(number, dtype=torch.bool)[:, None]


def kept(scores, **options):
    scores = torch.tensor(scores)
    return select_instances(scores, scores, FilterOptions(**options)).tolist()


def test_threshold_is_strict():
    assert kept([0.9, 0.31, 0.30, 0.1], score_thr=0.3) == [0, 1]
    assert kept([0.5, 0.25], score_thr=0.25) == [0]


def test_unsorted_scores_give_the_same_set_best_first():
    assert kept([0.1, 0.31, 0.9, 0.30], score_thr=0.3) == [2, 1]


def test_mask_score_threshold_is_separate():
    scores, mask_scores = torch.tensor([0.9, 0.8, 0.2]), torch.tensor([0.2, 0.9, 0.9])
    options = FilterOptions(score_thr=0.3, mask_score_thr=0.5)
    assert select_instances(scores, mask_scores, options).tolist() == [1]


def test_max_per_image_keeps_the_best():
    assert kept([0.5, 0.9, 0.7], max_per_image=2) == [1, 2]


def test_nan_score_is_dropped():
    assert kept([float('nan'), 0.9]) == [1]


def test_first_writer_wins():
    settled, left = resolve_overlaps(row_masks('1110', '0011'), FilterOptions())
    assert torch.equal(settled, row_masks('1110', '0001'))
    assert left.tolist() == [True, True]


def test_covered_mask_is_dropped():
    scores = torch.tensor([0.5, 0.9])
    indices, masks = filter_instances(scores, scores, row_masks('0110', '1111'), FilterOptions())
    assert indices.tolist() == [1]
    assert torch.equal(masks, row_masks('1111'))


def test_small_area_first_saves_thin_objects():
    scores = torch.tensor([0.9, 0.5])
    masks = row_masks('1111', '0110')
    indices, settled = filter_instances(scores, scores, masks, FilterOptions(overlap='area'))
    assert indices.tolist() == [0, 1]
    assert torch.equal(settled, row_masks('1001', '0110'))


def test_overlaps_may_stay():
    masks = row_masks('1110', '0011')
    settled, left = resolve_overlaps(masks, FilterOptions(overlap='keep', min_kept=1.0))
    assert torch.equal(settled, masks)
    assert left.tolist() == [True, True]


def test_empty_masks_are_dropped_even_when_overlaps_stay():
    scores = torch.tensor([0.9, 0.8])
    options = FilterOptions(overlap='keep')
    indices, _ = filter_instances(scores, scores, row_masks('0000', '0100'), options)
    assert indices.tolist() == [1]


def test_slivers_of_a_second_mask_are_dropped_on_demand():
    masks = row_masks('111100', '011110', '000011')
    scores = torch.tensor([0.9, 0.8, 0.7])
    indices, settled = filter_instances(scores, scores, masks, FilterOptions())
    assert indices.tolist() == [0, 1, 2]
    assert settled[1].sum() == 1
    options = FilterOptions(min_kept=0.5)
    assert filter_instances(scores, scores, masks, options)[0].tolist() == [0, 2]


@pytest.mark.parametrize('overlap', ['score', 'area'])
def test_a_dropped_mask_takes_no_pixel_from_later_ones(overlap):
    # The second loses most of its pixels to the first; the third shares one, with the second alone.
    masks = row_masks('1111000000', '0111100000', '0000111110')
    if overlap == 'area':
        masks = row_masks('1110000000', '0111100000', '0000111110')
    scores = torch.tensor([0.9, 0.8, 0.7])
    options = FilterOptions(overlap=overlap, min_kept=0.9)
    indices, settled = filter_instances(scores, scores, masks, options)
    assert indices.tolist() == [0, 2]
    assert torch.equal(settled, masks[[0, 2]])


def test_a_mask_dropped_for_its_area_takes_no_pixel_either():
    scores = torch.tensor([0.9, 0.8, 0.7])
    masks = row_masks('111000', '001100', '000111')
    indices, settled = filter_instances(scores, scores, masks, FilterOptions(min_area=2))
    assert indices.tolist() == [0, 2]
    assert torch.equal(settled, row_masks('111000', '000111'))


def test_min_area_counts_after_overlaps():
    scores = torch.tensor([0.9, 0.8])
    indices, _ = filter_instances(
        scores, scores, row_masks('1110', '0111'), FilterOptions(min_area=2)
    )
    assert indices.tolist() == [0]


def test_no_instances():
    indices, masks = filter_instances(
        torch.zeros(0), torch.zeros(0), torch.zeros(0, 4, 6, dtype=torch.bool), FilterOptions()
    )
    assert len(indices) == 0
    assert masks.shape == (0, 4, 6)


def test_inputs_stay_as_they_are():
    masks = row_masks('1110', '0011')
    before = masks.clone()
    filter_instances(torch.tensor([0.9, 0.8]), torch.ones(2), masks, FilterOptions())
    assert torch.equal(masks, before)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'score_thr': 1.5}, 'score_thr must be a number'),
        ({'mask_score_thr': -0.1}, 'mask_score_thr must be a number'),
        ({'max_per_image': 0}, 'max_per_image must be an integer'),
        ({'min_area': 0}, 'min_area must be an integer'),
        ({'overlap': 'are'}, "did you mean 'area'"),
        ({'min_kept': 1.1}, 'min_kept must be a number'),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(ConfigError, match=text):
        FilterOptions(**options)
