"""Instance-aware pixel-wise contrastive loss of CAST."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_choice, check_number
from castkd.errors import ConfigError
from castkd.losses.chunked import chunked_sum
from castkd.losses.contrastive_terms import ContrastTerms, exclusion_groups
from castkd.losses.maps import widen
from castkd.losses.sampling import (
    CUES,
    cue_vectors,
    pixel_distributions,
    resize_logits,
)
from castkd.registry import MODELS
from castkd.schedules import Schedule, build_schedule

POOLS = ('batch', 'cross_image')
_OWNER = 'InstancePixelContrast'


def instance_pixel_contrast(
    anchor: Tensor,
    positive: Tensor,
    mask_logits: Tensor,
    cls_logits: Tensor,
    valid: Tensor | None = None,
    instance_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
    *,
    num_negatives: int | None = 200,
    temperature: float = 0.2,
    cue: str = 'fused',
    pool: str = 'batch',
    hinge: float | None = None,
    chunk_size: int = 1024,
    mask_temperature: float = 1.0,
    cross_image_cue: str | None = None,
    void_slot: bool = False,
    negative_grad: bool = True,
    foreground_only: bool = False,
    forbid_same_instance: bool = True,
    statistics: dict[str, Tensor] | None = None,
) -> Tensor:
    r"""Pull a pixel to itself in another view and push it from pixels of other instances.

    .. math::
        L = \frac{1}{|A|} \sum_{p \in A} -\log
            \frac{e^{s^+_p}}{e^{s^+_p} + \sum_{r=1}^{R} e^{s^-_{p,r}}}, \quad
        s^+_p = \frac{\cos(z_p, z'_p)}{T}, \quad s^-_{p,r} = \frac{\cos(z_p, z_{q_r})}{T}

    where :math:`z` is the anchor map, :math:`z'` the positive map, and the :math:`q_r` are drawn
    without replacement with probability proportional to the weight of :func:`debias_weights`.
    :math:`A` holds the anchors with at least one negative; if there is none, the loss is a zero
    that is connected to the graph. Gradient flows to ``anchor`` alone: ``positive`` and the logits
    are targets.

    Anchors are processed in chunks and the gradient of a chunk is taken while the chunk is alive:
    memory grows with chunk_size x M, where M is the number of valid pixels of the batch, never with
    M squared. The result can be differentiated once only. Everything is computed in float32
    (float64 for float64 input), also under autocast.

    Args:
        anchor: Raw embeddings of anchors and negatives (B, D, h, w); normalised here.
        positive: Raw embeddings of the same pixels in the other view (B, D, h, w); detached here.
        mask_logits: Mask logits per query (B, K, Hm, Wm); resized to (h, w) here.
        cls_logits: Class logits per query (B, K, C + 1), the last class meaning "no object".
        valid: Pixels that take part (B, h, w), bool; False for padding. None means all.
        instance_ids: Known instance per pixel (B, h, w), integers that are unique within an image,
            negative where there is none.
        generator: Source of the sampling noise, on the device of ``anchor``.
        num_negatives: Draws R per anchor, at least 1; None takes every candidate of positive
            weight, without drawing.
        temperature: T, above 0.
        cue: What tells pixels apart: ``fused``, ``class``, ``mask`` or ``uniform``.
        pool: Candidates of an anchor: ``batch`` (every pixel but itself) or ``cross_image`` (pixels
            of the other images only).
        hinge: If set, negatives enter as ``max(s^- - hinge, 0)``, as in the authors' code.
        chunk_size: Anchors per chunk, at least 1.
        mask_temperature: Temperature of the softmax over queries, above 0.
        cross_image_cue: Cue between pixels of two images, where query slots mean little; None for
            the same as ``cue``.
        void_slot: Whether a constant query "nothing" (logit 0) joins the softmax over queries.
        negative_grad: Whether gradient also flows through the negatives.
        foreground_only: Whether only pixels inside some mask (sigmoid > 0.5) are anchors.
        forbid_same_instance: Whether a candidate of the anchor's image and instance is never a
            negative. If not, ``instance_ids`` only measure the share of false negatives.
        statistics: If given, filled with detached scalars: ``pos_mean`` and ``neg_mean`` (cosines),
            ``separation`` (their difference), ``zero_weight_share`` (anchors without a negative),
            ``mask_entropy`` (of the softmax over queries, in nats, mean over pixels) and, with
            ``instance_ids``, ``false_negative_rate`` (share of the anchor's own instance among the
            negatives of anchors that lie on one). Where those are forbidden it is 0, and
            ``cue_false_negative_rate`` says what it would be: the share that the anchor's own instance
            has in the weight of its candidates. A mean over nothing is 0.

    Returns:
        The loss, a scalar of at least 0.

    Raises:
        ConfigError: When an option or a shape is wrong.

    Example:
        >>> z = torch.randn(2, 8, 4, 4, requires_grad=True)
        >>> masks, classes = torch.randn(2, 5, 8, 8), torch.randn(2, 5, 4)
        >>> loss = instance_pixel_contrast(z, torch.randn(2, 8, 4, 4), masks, classes)
        >>> loss.backward()

    Reference:
        CAST: Contrastive Adaptation and Distillation for Semi-Supervised Instance Segmentation,
        arXiv 2505.21904.
    """
    _check_options(num_negatives, cue, pool, hinge, chunk_size, mask_temperature, cross_image_cue)
    check_number(_OWNER, 'temperature', temperature, low=0, low_open=True)
    _check_inputs(anchor, positive, mask_logits, valid, instance_ids)
    with torch.autocast(anchor.device.type, enabled=False):
        masks = resize_logits(mask_logits.detach(), anchor.shape[-2:])
        spread = pixel_distributions(
            masks, cls_logits.detach(), mask_temperature=mask_temperature, void_slot=void_slot
        )
        take = _Selection(valid)
        image = take(_image_index(anchor))
        instance = None if instance_ids is None else take(_batch_ids(instance_ids))
        terms = ContrastTerms(
            positive=take(_unit_vectors(positive.detach())),
            cue=take(cue_vectors(*spread, cue)),
            cross_cue=cross_image_cue and take(cue_vectors(*spread, cross_image_cue)),
            image=image,
            instance=instance,
            group=exclusion_groups(image, instance if forbid_same_instance else None, pool),
            num_negatives=num_negatives,
            generator=generator,
            temperature=temperature,
            hinge=hinge,
            negative_grad=negative_grad,
            forbids=forbid_same_instance and instance is not None and pool == 'batch',
            measure=statistics is not None,
        )
        rows = _anchor_rows(masks, foreground_only, take)
        total = chunked_sum(terms, take(_unit_vectors(anchor)), rows.split(chunk_size))
        if statistics is not None:
            entropy = torch.special.entr(take(spread[0])).sum(dim=-1)
            statistics.update(
                terms.statistics(len(rows)), mask_entropy=entropy.sum() / max(len(entropy), 1)
            )
        return total / terms.used


@MODELS.register_module()
class InstancePixelContrast(nn.Module):
    """Module form of :func:`instance_pixel_contrast`, which describes formula and options.

    Args:
        num_negatives: Draws per anchor, at least 1; None for every candidate of positive weight.
        temperature: A number above 0, or a schedule of the training step (object or config).
        cue: ``fused``, ``class``, ``mask`` or ``uniform``.
        pool: ``batch`` or ``cross_image``.
        hinge: Hinge on the negatives, at least 0, or None.
        chunk_size: Anchors per chunk, at least 1.
        mask_temperature: Temperature of the softmax over queries, above 0.
        cross_image_cue: Cue between pixels of two images, or None for ``cue``.
        void_slot: Whether a query "nothing" joins the softmax over queries.
        negative_grad: Whether gradient also flows through the negatives.
        foreground_only: Whether only pixels inside some mask are anchors.
        forbid_same_instance: Whether known instances forbid negatives, or only measure them.

    Attributes:
        last_statistics: What the last call measured: the ``statistics`` of the function.

    Raises:
        ConfigError: When an option is wrong.

    Example:
        >>> loss = InstancePixelContrast(num_negatives=10)
        >>> z = torch.randn(2, 8, 4, 4, requires_grad=True)
        >>> masks, classes = torch.randn(2, 5, 8, 8), torch.randn(2, 5, 4)
        >>> loss(z, torch.randn(2, 8, 4, 4), masks, classes).backward()
        >>> sorted(loss.last_statistics)
        ['mask_entropy', 'neg_mean', 'pos_mean', 'separation', 'zero_weight_share']
    """

    def __init__(
        self,
        num_negatives: int | None = 200,
        temperature: float | Mapping | Schedule = 0.2,
        cue: str = 'fused',
        pool: str = 'batch',
        hinge: float | None = None,
        chunk_size: int = 1024,
        *,
        mask_temperature: float = 1.0,
        cross_image_cue: str | None = None,
        void_slot: bool = False,
        negative_grad: bool = True,
        foreground_only: bool = False,
        forbid_same_instance: bool = True,
    ) -> None:
        """Check and store the options."""
        super().__init__()
        _check_options(
            num_negatives, cue, pool, hinge, chunk_size, mask_temperature, cross_image_cue
        )
        self.temperature = build_schedule(temperature, f'{_OWNER}: temperature')
        check_number(_OWNER, 'temperature', self.temperature(0), low=0, low_open=True)
        self.options = {
            'num_negatives': num_negatives,
            'cue': cue,
            'pool': pool,
            'hinge': hinge,
            'chunk_size': chunk_size,
            'mask_temperature': mask_temperature,
            'cross_image_cue': cross_image_cue,
            'void_slot': void_slot,
            'negative_grad': negative_grad,
            'foreground_only': foreground_only,
            'forbid_same_instance': forbid_same_instance,
        }
        self.last_statistics: dict[str, Tensor] = {}

    def forward(
        self,
        anchor: Tensor,
        positive: Tensor,
        mask_logits: Tensor,
        cls_logits: Tensor,
        valid: Tensor | None = None,
        instance_ids: Tensor | None = None,
        generator: torch.Generator | None = None,
        step: int = 0,
    ) -> Tensor:
        """Return the loss; ``step`` is the training step that the temperature schedule reads."""
        self.last_statistics = {}
        return instance_pixel_contrast(
            anchor,
            positive,
            mask_logits,
            cls_logits,
            valid,
            instance_ids,
            generator,
            temperature=self.temperature(step),
            statistics=self.last_statistics,
            **self.options,
        )

    def extra_repr(self) -> str:
        """Show the options."""
        shown = {**self.options, 'temperature': self.temperature}
        return ', '.join(f'{name}={value!r}' for name, value in shown.items())


class _Selection:
    """Takes the valid pixels of per-pixel values (B, N, ...) into one list (M, ...)."""

    def __init__(self, valid: Tensor | None) -> None:
        self.kept = None if valid is None else valid.flatten().nonzero().squeeze(1)

    def __call__(self, values: Tensor) -> Tensor:
        flat = values.flatten(0, 1)
        return flat if self.kept is None else flat[self.kept]


def _unit_vectors(feature: Tensor) -> Tensor:
    """Normalise (B, D, h, w) over D and return it as (B, N, D)."""
    return F.normalize(widen(feature).permute(0, 2, 3, 1).flatten(1, 2), dim=2, eps=1e-6)


def _image_index(anchor: Tensor) -> Tensor:
    images, _, height, width = anchor.shape
    return torch.arange(images, device=anchor.device)[:, None].expand(-1, height * width)


def _batch_ids(instance_ids: Tensor) -> Tensor:
    """Make ids (B, h, w) that are unique within an image unique within the batch: (B, N)."""
    ids = instance_ids.flatten(1).long()
    first = torch.arange(len(ids), device=ids.device)[:, None] * (ids.max() + 1)
    return torch.where(ids >= 0, ids + first, -1)


def _anchor_rows(masks: Tensor, foreground_only: bool, take: _Selection) -> Tensor:
    inside = masks.amax(dim=1).flatten(1) > 0
    candidates = take(inside if foreground_only else torch.ones_like(inside))
    return candidates.nonzero().squeeze(1)


def _check_options(
    num_negatives: int | None,
    cue: str,
    pool: str,
    hinge: float | None,
    chunk_size: int,
    mask_temperature: float,
    cross_image_cue: str | None,
) -> None:
    if num_negatives is not None:
        check_number(_OWNER, 'num_negatives', num_negatives, low=1, integer=True)
    check_choice(_OWNER, 'cue', cue, CUES)
    check_choice(_OWNER, 'pool', pool, POOLS)
    if hinge is not None:
        check_number(_OWNER, 'hinge', hinge, low=0)
    check_number(_OWNER, 'chunk_size', chunk_size, low=1, integer=True)
    check_number(_OWNER, 'mask_temperature', mask_temperature, low=0, low_open=True)
    if cross_image_cue is not None:
        check_choice(_OWNER, 'cross_image_cue', cross_image_cue, CUES)


def _check_inputs(
    anchor: Tensor,
    positive: Tensor,
    mask_logits: Tensor,
    valid: Tensor | None,
    instance_ids: Tensor | None,
) -> None:
    if anchor.dim() != 4:
        raise ConfigError(f'{_OWNER}: anchor must be (B, D, h, w), got {tuple(anchor.shape)}')
    images, _, height, width = anchor.shape
    grid = (images, height, width)
    _check_shape('positive', positive, tuple(anchor.shape))
    if len(mask_logits) != images:
        raise ConfigError(
            f'{_OWNER}: mask_logits must hold {images} images like anchor, got {len(mask_logits)}'
        )
    if valid is not None:
        _check_shape('valid', valid, grid)
        if valid.dtype != torch.bool:
            raise ConfigError(f'{_OWNER}: valid must be bool, got {valid.dtype}')
    if instance_ids is not None:
        _check_shape('instance_ids', instance_ids, grid)
        if instance_ids.is_floating_point() or instance_ids.dtype == torch.bool:
            raise ConfigError(f'{_OWNER}: instance_ids must be integers, got {instance_ids.dtype}')


def _check_shape(name: str, value: Tensor, wanted: tuple[int, ...]) -> None:
    if tuple(value.shape) != wanted:
        raise ConfigError(
            f'{_OWNER}: {name} must be {wanted} to match anchor, got {tuple(value.shape)}'
        )
