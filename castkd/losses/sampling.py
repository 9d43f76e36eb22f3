"""Debiased negatives: which pixels probably show another instance, and draws among them.

A pixel is described by how its mask logits spread over the queries (``P_m``) and by the class
distribution that this spread implies (``F_c``). Two pixels with the same description probably show
the same instance, so the weight with which one is drawn as the other's negative is one minus their
cosine (CAST, arXiv 2505.21904).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from castkd.checks import check_choice, check_number
from castkd.errors import ConfigError
from castkd.losses.maps import resize_maps, widen

CUES = ('fused', 'class', 'mask', 'uniform')
# Rounding leaves about 1e-7 between identical float32 unit vectors; they must count as identical.
_ZERO = 1e-6


def resize_logits(mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize mask logits (B, K, Hm, Wm) to the grid ``size``, bilinear, corners not aligned.

    Returns:
        Logits (B, K, h, w), at least float32.

    Raises:
        ConfigError: When ``mask_logits`` has another number of dimensions.
    """
    if mask_logits.dim() != 4:
        raise ConfigError(
            f'pixel cue: mask_logits must be (B, K, Hm, Wm), got {tuple(mask_logits.shape)}'
        )
    return resize_maps(mask_logits, size)


def pixel_distributions(
    masks: Tensor,
    cls_logits: Tensor,
    *,
    mask_temperature: float = 1.0,
    void_slot: bool = False,
) -> tuple[Tensor, Tensor]:
    """Describe every pixel by its distribution over queries and over classes.

    ``P_m = softmax_k(masks / mask_temperature)``, ``F_c = sum_k P_m[k] softmax(cls_logits[k])``.

    Args:
        masks: Mask logits on the grid of the pixels (B, K, h, w); N = h * w.
        cls_logits: Class logits (B, K, C + 1), the last class meaning "no object".
        mask_temperature: Temperature of the softmax over queries, above 0.
        void_slot: Whether a further query with mask logit 0 and class "no object" takes part, so
            that a pixel outside every mask is not forced onto some query.

    Returns:
        ``P_m`` (B, N, K), with K + 1 entries when ``void_slot``, and ``F_c`` (B, N, C + 1). Their
        rows sum to 1.

    Raises:
        ConfigError: When a shape or ``mask_temperature`` is wrong.
    """
    check_number('pixel cue', 'mask_temperature', mask_temperature, low=0, low_open=True)
    if cls_logits.dim() != 3 or cls_logits.shape[:2] != masks.shape[:2]:
        raise ConfigError(
            f'pixel cue: cls_logits must be ({masks.shape[0]}, {masks.shape[1]}, C + 1) to match '
            f'mask_logits, got {tuple(cls_logits.shape)}'
        )
    per_pixel = masks.flatten(2).transpose(1, 2)
    per_query = widen(cls_logits).softmax(dim=2)
    if void_slot:
        nothing = torch.zeros_like(per_query[:, :1])
        nothing[..., -1] = 1.0
        per_pixel = F.pad(per_pixel, (0, 1))
        per_query = torch.cat([per_query, nothing], dim=1)
    over_queries = (per_pixel / mask_temperature).softmax(dim=2)
    return over_queries, over_queries @ per_query


def cue_vectors(over_queries: Tensor, over_classes: Tensor, cue: str) -> Tensor:
    """Return the L2-normalised description (B, N, Q) of every pixel that ``cue`` names.

    Args:
        over_queries: ``P_m`` (B, N, K).
        over_classes: ``F_c`` (B, N, C + 1).
        cue: ``fused`` (both, concatenated), ``class``, ``mask`` or ``uniform``.

    Returns:
        Unit vectors, so that identical pixels have cosine 1; for ``uniform`` of width 0, so that
        every cosine is 0.

    Raises:
        ConfigError: When ``cue`` is unknown.
    """
    check_choice('pixel cue', 'cue', cue, CUES)
    if cue == 'uniform':
        return over_queries[..., :0]
    parts = {
        'fused': (over_queries, over_classes),
        'class': (over_classes,),
        'mask': (over_queries,),
    }
    return F.normalize(torch.cat(parts[cue], dim=-1), dim=-1)


def dissimilarity(rows: Tensor, columns: Tensor) -> Tensor:
    """Return ``max(0, 1 - <row, column>)`` (n, M) for unit vectors (n, Q) and (M, Q)."""
    weights = torch.addmm(rows.new_ones(1), rows, columns.t(), alpha=-1)
    return F.threshold_(weights, _ZERO, 0.0)


@torch.no_grad()
def debias_weights(
    mask_logits: Tensor,
    cls_logits: Tensor,
    size: tuple[int, int],
    cue: str = 'fused',
    *,
    mask_temperature: float = 1.0,
    void_slot: bool = False,
) -> Tensor:
    r"""Weight with which pixel (b', q) is drawn as a negative of pixel (b, p).

    .. math::
        s_{deb} = \max(0, 1 - \langle \tilde y_{b,p}, \tilde y_{b',q} \rangle)

    with the L2-normalised description ``y`` of :func:`cue_vectors`. Symmetric, in [0, 1], and 0
    between identical pixels (differences within rounding, 1e-6, count as none). For ``uniform``
    every weight is 1. The whole matrix is made: meant for inspection and small grids, the loss
    works on chunks of it.

    Args:
        mask_logits: Mask logits (B, K, Hm, Wm).
        cls_logits: Class logits (B, K, C + 1).
        size: Grid (h, w) of the pixels; N = h * w.
        cue: ``fused``, ``class``, ``mask`` or ``uniform``.
        mask_temperature: Temperature of the softmax over queries, above 0.
        void_slot: See :func:`pixel_distributions`.

    Returns:
        Weights (B, N, B, N) without gradient.

    Raises:
        ConfigError: When a shape or an option is wrong.

    Example:
        >>> debias_weights(torch.randn(2, 5, 8, 8), torch.randn(2, 5, 4), size=(2, 3)).shape
        torch.Size([2, 6, 2, 6])

    Reference:
        CAST: Contrastive Adaptation and Distillation for Semi-Supervised Instance Segmentation,
            arXiv 2505.21904.
    """
    distributions = pixel_distributions(
        resize_logits(mask_logits, size),
        cls_logits,
        mask_temperature=mask_temperature,
        void_slot=void_slot,
    )
    vectors = cue_vectors(*distributions, cue)
    images, pixels = vectors.shape[:2]
    flat = vectors.flatten(0, 1)
    return dissimilarity(flat, flat).view(images, pixels, images, pixels)


@torch.no_grad()
def draw_negatives(
    weights: Tensor,
    count: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw candidates without replacement, each draw with probability proportional to the weight.

    The Gumbel top-R trick in its exponential form: the ``count`` smallest ``E / w`` with ``E ~
    Exp(1)`` are the ``count`` largest ``log w - log E``, and ``-log E`` is Gumbel noise.

    Args:
        weights: Non-negative weights (n, M), one row per anchor; 0 forbids.
        count: Draws R per anchor, clamped to M.
        generator: Source of the noise, on the device of ``weights``; None for the global one.

    Returns:
        Candidate per draw (n, R) and whether the draw took place (n, R): False where a row has
        fewer than R candidates of positive weight. No candidate repeats within a row.

    Example:
        >>> index, drawn = draw_negatives(torch.tensor([[0.0, 0.5, 0.5]]), count=3)
        >>> index.shape, int(drawn.sum())
        (torch.Size([1, 3]), 2)
    """
    # log(U) is minus an exponential variable: the score is below 0 where the weight is above 0.
    noise = torch.empty_like(weights).uniform_(generator=generator).log_()
    scores = torch.div(weights, noise, out=noise)
    index = scores.topk(min(count, weights.shape[1]), dim=1, largest=False, sorted=False).indices
    return index, weights.gather(1, index) > 0
