"""Similarities between pixels: of one image (SKD), or of all images of a batch (CIRKD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.losses.chunked import chunked_sum
from castkd.losses.maps import paired
from castkd.registry import MODELS


def pairwise_similarity(student: Tensor, teacher: Tensor, *, pool: int = 2) -> Tensor:
    r"""Compare the cosines between all pixels of an image (SKD, pair-wise term).

    .. math::
        L = \frac{1}{B N^2} \sum_{b,i,j} \big(\cos(s_{bi}, s_{bj}) - \cos(t_{bi}, t_{bj})\big)^2

    over the N cells of the map after a max-pooling with windows of ``pool`` x ``pool``; cells at the right and bottom
    edges may be smaller. Memory grows with N squared.

    Args:
        student: Features (B, C, h, w).
        teacher: Features (B, D, h, w), with any number of channels; no gradient flows to them.
        pool: Side of the windows, at least 1.

    Returns:
        The loss, a scalar in [0, 4]; unchanged by a rescaling of either map.

    Raises:
        ConfigError: When a shape is wrong.

    Reference:
        Liu et al., Structured Knowledge Distillation for Dense Prediction, arXiv 1903.04197; windows as in the
        segmentation benchmark of CIRKD, arXiv 2204.06986.
    """
    student, teacher = paired('PairwiseSimilarity', student, teacher, same_channels=False)
    with torch.autocast(student.device.type, enabled=False):
        return F.mse_loss(_cosines(student, pool), _cosines(teacher, pool))


def _cosines(feature: Tensor, pool: int) -> Tensor:
    pooled = F.max_pool2d(feature, pool, ceil_mode=True)
    pixels = F.normalize(pooled.flatten(2), dim=1)
    return pixels.transpose(1, 2) @ pixels


def cross_image_relation(
    student: Tensor, teacher: Tensor, *, temperature: float = 0.1, chunk_size: int = 512
) -> Tensor:
    r"""Compare how pixels relate to the pixels of every image of the batch (CIRKD, mini-batch term).

    .. math::
        L = \frac{1}{B^2 N} \sum_{i,j} \sum_{p} KL\big(\sigma_q(\cos(t_{ip}, t_{jq}) / T) \,\|\,
            \sigma_q(\cos(s_{ip}, s_{jq}) / T)\big)

    over all ordered pairs (i, j) of images, an image with itself included, where :math:`\sigma_q` is the softmax over
    the N = h x w pixels of image j. Images of other processes take no part.

    Rows are processed in chunks whose gradient is taken at once: memory grows with ``chunk_size`` x B N. The result
    can be differentiated once only.

    Args:
        student: Features (B, C, h, w).
        teacher: Features (B, D, h, w), with any number of channels; no gradient flows to them.
        temperature: T, above 0.
        chunk_size: Rows per chunk, at least 1.

    Returns:
        The loss, a scalar of at least 0; unchanged by a rescaling of either map.

    Raises:
        ConfigError: When a shape is wrong.

    Reference:
        Yang et al., Cross-Image Relational Knowledge Distillation for Semantic Segmentation, arXiv 2204.06986.
    """
    student, teacher = paired('CrossImageRelation', student, teacher, same_channels=False)
    images = len(student)
    targets = _unit_pixels(teacher)

    def relations(pixels: Tensor, rows: Tensor) -> Tensor:
        cosines = pixels[rows] @ pixels.T / temperature
        return F.log_softmax(cosines.unflatten(1, (images, -1)), dim=2)

    def divergence(pixels: Tensor, rows: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = relations(targets, rows)
        return F.kl_div(relations(pixels, rows), wanted, reduction='sum', log_target=True)

    with torch.autocast(student.device.type, enabled=False):
        rows = torch.arange(len(targets), device=targets.device).split(chunk_size)
        total = chunked_sum(divergence, _unit_pixels(student), rows)
    return total / (images * len(targets))


def _unit_pixels(feature: Tensor) -> Tensor:
    """Return the pixels of (B, C, h, w) as vectors of length 1: (B h w, C)."""
    return F.normalize(feature, dim=1).permute(0, 2, 3, 1).flatten(0, 2)


@MODELS.register_module()
class PairwiseSimilarity(nn.Module):
    """Module form of :func:`pairwise_similarity` (SKD), which describes the formula.

    Args:
        pool: Side of the windows of the max-pooling, at least 1.

    Raises:
        ConfigError: When the option is out of its range.
    """

    def __init__(self, pool: int = 2) -> None:
        """Check and store the option."""
        super().__init__()
        check_number('PairwiseSimilarity', 'pool', pool, low=1, integer=True)
        self.pool = pool

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of maps (B, C, h, w) and (B, D, h, w)."""
        return pairwise_similarity(student, teacher, pool=self.pool)

    def extra_repr(self) -> str:
        """Show the option."""
        return f'pool={self.pool}'


@MODELS.register_module()
class CrossImageRelation(nn.Module):
    """Module form of :func:`cross_image_relation` (CIRKD, mini-batch term), which describes the formula.

    Args:
        temperature: Temperature of the softmax over pixels, above 0.
        chunk_size: Rows per chunk, at least 1.

    Raises:
        ConfigError: When an option is out of its range.
    """

    def __init__(self, temperature: float = 0.1, chunk_size: int = 512) -> None:
        """Check and store the options."""
        super().__init__()
        check_number('CrossImageRelation', 'temperature', temperature, low=0, low_open=True)
        check_number('CrossImageRelation', 'chunk_size', chunk_size, low=1, integer=True)
        self.temperature = temperature
        self.chunk_size = chunk_size

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of maps (B, C, h, w) and (B, D, h, w)."""
        return cross_image_relation(
            student, teacher, temperature=self.temperature, chunk_size=self.chunk_size
        )

    def extra_repr(self) -> str:
        """Show the options."""
        return f'temperature={self.temperature}, chunk_size={self.chunk_size}'
