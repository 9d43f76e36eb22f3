"""CutMix of unlabelled images within the step.

French et al., "Semi-supervised semantic segmentation needs strong, varied perturbations", BMVC 2020; boxes as in the
code of Qin et al., "Multi-Granularity Distillation Scheme Towards Lightweight Semi-Supervised Semantic Segmentation",
ECCV 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from castkd.checks import check_number
from castkd.distiller.views import Derived, DerivedView
from castkd.errors import ConfigError
from castkd.registry import MODELS


def cutmix_masks(
    count: int,
    size: tuple[int, int],
    *,
    num_boxes: int = 3,
    area: tuple[float, float] = (0.25, 0.5),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw masks of boxes.

    A box has p / ``num_boxes`` of the image's area, p ~ U(area). Its height takes p^u of the image's and its width
    p^(1 - u), u ~ U(0, 1), both times sqrt(1 / num_boxes). It lies anywhere inside. Boxes toggle what is below them, so
    that overlaps cancel.

    Args:
        count: Number of masks B.
        size: (H, W) in pixels.
        num_boxes: Boxes per mask, at least 1.
        area: Smallest and largest p, in (0, 1].
        generator: Source of the random numbers, on the CPU; None takes torch's global one.

    Returns:
        (B, 1, H, W) bool on the CPU; with the default options a quarter of the pixels is True on average.

    Raises:
        ConfigError: When an option is wrong.

    Example:
        >>> cutmix_masks(2, (8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    _check_options(num_boxes, area)
    share, exponent, top, left = torch.rand(4, count, num_boxes, generator=generator)
    share = area[0] + share * (area[1] - area[0])
    scale = num_boxes**-0.5
    rows = _inside(share**exponent * scale, top, size[0])
    columns = _inside(share ** (1 - exponent) * scale, left, size[1])
    boxes = rows[..., :, None] & columns[..., None, :]
    return boxes.sum(dim=1, keepdim=True) % 2 == 1


def _inside(fraction: Tensor, place: Tensor, length: int) -> Tensor:
    """Say which of ``length`` pixels lie in a stretch: its share of the length and its place in [0, 1), each (B, n)."""
    extent = (fraction * length).round()
    # Every whole number of pixels that leaves the stretch inside is equally likely.
    start = (place * (length - extent + 1)).floor()
    pixels = torch.arange(length)
    return (pixels >= start[..., None]) & (pixels < (start + extent)[..., None])


@dataclass
class Mixture:
    """Which image each pixel of a mixed view comes from.

    Attributes:
        mask: (B', 1, H, W) bool; True takes the second image.
        first: Index in the source batch of the first image of each pair (B').
        second: Index of the second.
    """

    mask: Tensor
    first: Tensor
    second: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        """Mix maps of the source view, (B, H, W) or (B, C, H, W), to one per pair.

        Raises:
            ConfigError: When the maps have another size than the images.
        """
        if maps.shape[-2:] != self.mask.shape[-2:]:
            raise ConfigError(
                f'CutMix: maps of {tuple(maps.shape[-2:])} pixels cannot be mixed by a mask of '
                f'{tuple(self.mask.shape[-2:])}; resize them to the images first'
            )
        mask = self.mask if maps.dim() == 4 else self.mask[:, 0]
        return torch.where(mask, maps[self.second], maps[self.first])


@MODELS.register_module()
class CutMix(DerivedView):
    """Paste boxes of one image into another.

    The first half of the source view's batch is mixed with the second half, one pair per mixed image, so 2B images give
    B. Two images of a pair are different ones wherever the batch allows it: when the same image comes twice (a small
    source, or the end of a pass over it), partners are shifted.

    Args:
        source: Name of the view whose images are mixed.
        num_boxes: Boxes per image, at least 1.
        area: Smallest and largest p of :func:`cutmix_masks`, in (0, 1].

    Raises:
        ConfigError: When an option is wrong, or the source view has an odd number of images.
    """

    def __init__(
        self,
        source: str = 'unsup_teacher',
        num_boxes: int = 3,
        area: tuple[float, float] = (0.25, 0.5),
    ) -> None:
        super().__init__(source)
        _check_options(num_boxes, area)
        self.num_boxes = num_boxes
        self.area = tuple(area)

    def __call__(self, inputs: Tensor, samples: list) -> Derived:
        """Mix the images (2B, 3, H, W) to (B, 3, H, W)."""
        if len(samples) % 2:
            raise ConfigError(
                f'CutMix: view {self.source!r} has {len(samples)} images, which do not make pairs; take an even number '
                'of them into a batch (counts of the batch sampler)'
            )
        pairs = _pairs(samples)
        masks = cutmix_masks(
            len(pairs), inputs.shape[-2:], num_boxes=self.num_boxes, area=self.area
        )
        first, second = torch.tensor(pairs, device=inputs.device).T
        mixture = Mixture(masks.to(inputs.device), first, second)
        mixed = [_mixed_sample(samples[one], samples[other]) for one, other in pairs]
        return Derived(mixture(inputs), mixed, mixture)


def _check_options(num_boxes: int, area: tuple[float, float]) -> None:
    check_number('CutMix', 'num_boxes', num_boxes, low=1, integer=True)
    check_number('CutMix', 'area[0]', area[0], low=0, low_open=True, high=1)
    check_number('CutMix', 'area[1]', area[1], low=area[0], high=1)


def _pairs(samples: list) -> list[tuple[int, int]]:
    """Return pairs of the first and the second half, shifted so that the fewest have one image twice."""
    half = len(samples) // 2
    paths = [sample.metainfo.get('img_path') for sample in samples]

    def pairs(shift: int) -> list[tuple[int, int]]:
        return [(index, half + (index + shift) % half) for index in range(half)]

    def doubles(shift: int) -> int:
        return sum(
            paths[one] is not None and paths[one] == paths[other] for one, other in pairs(shift)
        )

    return pairs(min(range(half), key=doubles))


def _mixed_sample(first: object, second: object) -> object:
    """Return a data sample without labels and without a homography: two images have no common one."""
    metainfo = {key: value for key, value in first.metainfo.items() if key != 'homography_matrix'}
    # Pixels of either image are image and not padding.
    for key, choose in (('img_shape', max), ('padding_size', min)):
        if key in metainfo:
            both = zip(metainfo[key], second.metainfo[key], strict=True)
            metainfo[key] = tuple(choose(values) for values in both)
    return type(first)(metainfo=metainfo)
