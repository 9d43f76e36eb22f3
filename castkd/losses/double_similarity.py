"""Double similarity (DSD): attention that moves between layers, and similarity between classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.losses.features import attention_map
from castkd.losses.maps import paired
from castkd.registry import MODELS


def pixel_similarity(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    r"""Compare how attention differs between the maps of a list (DSD, pixel-wise term, PSD).

    .. math::
        L = \frac{1}{|Q|} \sum_{(n,m) \in Q} \frac{1}{B h w} \sum_{b,p} (r^s_{nm,bp} - r^t_{nm,bp})^2, \quad
        r_{nm} = \frac{A_m - A_n}{\|A_m - A_n\|_2}

    over the pairs n < m of the list, where :math:`A` is the map of :func:`~castkd.losses.features.attention_map`. Two
    equal maps have :math:`r_{nm} = 0`, without gradient. The segmentation benchmark of CIRKD takes auxiliary logits,
    the feature before the classifier, and the logits; the logits twice where a student has no auxiliary head.

    Args:
        student: At least two maps (B, C_n, h, w) of one grid.
        teacher: As many maps (B, D_n, h, w), with any number of channels; no gradient flows to them.

    Returns:
        The loss, a scalar of at least 0.

    Raises:
        ConfigError: When the lists differ in length, are too short, or hold maps of several grids.

    Reference:
        Feng et al., Double Similarity Distillation for Semantic Image Segmentation, IEEE TIP 2021.
    """
    if len(student) != len(teacher) or len(student) < 2:
        raise ConfigError(
            f'PixelSimilarity: student and teacher must be lists of equal length of at least 2, got {len(student)} '
            f'and {len(teacher)} maps'
        )
    maps = [
        paired('PixelSimilarity', *pair, same_channels=False)
        for pair in zip(student, teacher, strict=True)
    ]
    grids = {tuple(own.shape[2:]) for own, _ in maps}
    if len(grids) > 1:
        raise ConfigError(
            f'PixelSimilarity: all maps of the list must have one grid, got {sorted(grids)}'
        )
    own, wanted = ([attention_map(feature) for feature in side] for side in zip(*maps, strict=True))
    terms = [
        F.mse_loss(_move(own[first], own[second]), _move(wanted[first], wanted[second]))
        for first, second in combinations(range(len(maps)), 2)
    ]
    return torch.stack(terms).mean()


def _move(first: Tensor, second: Tensor) -> Tensor:
    """Return the difference of two maps (B, N) in length 1; one that is zero stays it and has no gradient."""
    move = second - first
    # Divided by its length, a zero has a gradient of 1e12, in whose rounding that of the other pairs is lost.
    still = ~move.any(dim=1, keepdim=True)
    return F.normalize(move.masked_fill(still, 0), dim=1)


def category_similarity(
    student: Tensor, teacher: Tensor, *, tau: float = 4.0, pool: int = 2
) -> Tensor:
    r"""Compare how the places of two classes overlap (DSD, category-wise term, CSD).

    .. math::
        L = \frac{1}{B C^2} \sum_{b,k,l}
            \big(\langle P^s_{bk}, P^s_{bl} \rangle - \langle P^t_{bk}, P^t_{bl} \rangle\big)^2

    where :math:`P_{bk}` is the softmax, at temperature ``tau``, of the logits of class k over the cells of the map
    after an average-pooling with windows of ``pool`` x ``pool``; cells at the right and bottom edges may be smaller.

    Args:
        student: Logits (B, C, h, w).
        teacher: Logits (B, C, h, w); no gradient flows to them.
        tau: Temperature, above 0.
        pool: Side of the windows, at least 1.

    Returns:
        The loss, a scalar of at least 0; unchanged by a constant added to the logits of a class.

    Raises:
        ConfigError: When a shape is wrong, such as another number of classes.

    Reference:
        Feng et al., Double Similarity Distillation for Semantic Image Segmentation, IEEE TIP 2021.
    """
    student, teacher = paired('CategorySimilarity', student, teacher)
    with torch.autocast(student.device.type, enabled=False):
        return F.mse_loss(_overlaps(student, tau, pool), _overlaps(teacher, tau, pool))


def _overlaps(logits: Tensor, tau: float, pool: int) -> Tensor:
    pooled = F.avg_pool2d(logits, pool, ceil_mode=True)
    places = (pooled.flatten(2) / tau).softmax(dim=2)
    return places @ places.transpose(1, 2)


@MODELS.register_module()
class PixelSimilarity(nn.Module):
    """Module form of :func:`pixel_similarity` (DSD), which describes the formula.

    Attributes:
        takes_lists: True: one call compares all maps of a list, not one pair of maps.
    """

    takes_lists = True

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss of two lists of maps (B, C_n, h, w) and (B, D_n, h, w)."""
        return pixel_similarity(student, teacher)


@MODELS.register_module()
class CategorySimilarity(nn.Module):
    """Module form of :func:`category_similarity` (DSD), which describes the formula.

    Args:
        tau: Temperature of the softmax over positions, above 0.
        pool: Side of the windows of the average-pooling, at least 1.

    Raises:
        ConfigError: When an option is out of its range.
    """

    def __init__(self, tau: float = 4.0, pool: int = 2) -> None:
        """Check and store the options."""
        super().__init__()
        check_number('CategorySimilarity', 'tau', tau, low=0, low_open=True)
        check_number('CategorySimilarity', 'pool', pool, low=1, integer=True)
        self.tau = tau
        self.pool = pool

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two maps (B, C, h, w)."""
        return category_similarity(student, teacher, tau=self.tau, pool=self.pool)

    def extra_repr(self) -> str:
        """Show the options."""
        return f'tau={self.tau}, pool={self.pool}'
