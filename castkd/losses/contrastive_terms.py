"""What a chunk of anchors adds to the pixel-wise contrastive loss, and to its statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from castkd.losses.sampling import dissimilarity, draw_negatives


@dataclass
class ContrastTerms:
    """The loss of some anchors: what every chunk shares, in lists of the M pixels that take part.

    Attributes:
        positive: Unit vectors of the other view (M, D).
        cue: Unit vectors that describe the pixels (M, Q).
        cross_cue: The same for pairs across images (M, Q'), or None.
        image: Image per pixel (M,).
        instance: Instance per pixel (M,), unique in the batch, negative for none; or None.
        group: Group per pixel (M,); a pixel is no negative for its own group.
        forbids: Whether the groups are known instances, which are then no negatives.
        measure: Whether to keep the sums for the statistics.
    """

    positive: Tensor
    cue: Tensor
    cross_cue: Tensor | None
    image: Tensor
    instance: Tensor | None
    group: Tensor
    num_negatives: int | None
    generator: torch.Generator | None
    temperature: float
    hinge: float | None
    negative_grad: bool
    forbids: bool
    measure: bool

    def __post_init__(self) -> None:
        """Start the sums at zero."""
        names = ('used', 'positives', 'negatives', 'drawn', 'false', 'on_instance', 'own', 'owners')
        self.sums = {name: self.positive.new_zeros(()) for name in names}

    def __call__(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Return the summed loss of the anchors ``rows`` (n,); zero for those without negatives."""
        index, drawn = self._negatives(rows)
        anchors = embeddings[rows]
        pool = embeddings if self.negative_grad else embeddings.detach()
        similarity = anchors @ pool.t()
        if index is not None:
            similarity = similarity.gather(1, index)
        cosine = (anchors * self.positive[rows]).sum(dim=1)
        self._count(rows, index, drawn, cosine.detach(), similarity.detach())
        logits = similarity.div_(self.temperature)
        if self.hinge is not None:
            logits = F.relu(logits - self.hinge)
        logits = logits.masked_fill(~drawn, -torch.inf)
        return F.softplus(logits.logsumexp(dim=1) - cosine / self.temperature).sum()

    def _negatives(self, rows: Tensor) -> tuple[Tensor | None, Tensor]:
        weights = dissimilarity(self.cue[rows], self.cue)
        if self.cross_cue is not None:
            across = dissimilarity(self.cross_cue[rows], self.cross_cue)
            weights = torch.where(self.image[rows, None] == self.image, weights, across)
        count = self.measure and self.forbids
        allowed = weights.sum(dim=1) - weights.gather(1, rows[:, None])[:, 0] if count else None
        weights.masked_fill_(self.group[rows, None] == self.group, 0.0)
        if count:
            self._count_forbidden(rows, allowed, weights.sum(dim=1))
        if self.num_negatives is None or self.num_negatives >= weights.shape[1]:
            return None, weights > 0
        return draw_negatives(weights, self.num_negatives, self.generator)

    def _count(
        self, rows: Tensor, index: Tensor | None, drawn: Tensor, positive: Tensor, negative: Tensor
    ) -> None:
        used = drawn.any(dim=1)
        self.sums['used'] += used.sum()
        if not self.measure:
            return
        self.sums['positives'] += (positive * used).sum()
        self.sums['negatives'] += (negative * drawn).sum()
        self.sums['drawn'] += drawn.sum()
        if self.instance is not None:
            own = self.instance[rows, None]
            other = self.instance if index is None else self.instance[index]
            self.sums['false'] += (drawn & (own == other) & (own >= 0)).sum()
            self.sums['on_instance'] += (drawn & (own >= 0)).sum()

    def _count_forbidden(self, rows: Tensor, before: Tensor, after: Tensor) -> None:
        """Count which share of the weight of other pixels (n,) the own instance had before it was forbidden."""
        owners = (self.instance[rows] >= 0) & (before > 0)
        self.sums['own'] += torch.where(owners, 1 - after / before, 0.0).sum()
        self.sums['owners'] += owners.sum()

    @property
    def used(self) -> Tensor:
        """Number of anchors with a negative, at least 1 so that it can divide."""
        return self.sums['used'].clamp(min=1)

    def statistics(self, anchors: int) -> dict[str, Tensor]:
        """Return the means over the chunks seen, for a total of ``anchors`` anchors."""
        sums = self.sums
        pos_mean = sums['positives'] / self.used
        neg_mean = sums['negatives'] / sums['drawn'].clamp(min=1)
        result = {
            'pos_mean': pos_mean,
            'neg_mean': neg_mean,
            'separation': pos_mean - neg_mean,
            'zero_weight_share': (anchors - sums['used']) / max(anchors, 1),
        }
        if self.instance is not None:
            result['false_negative_rate'] = sums['false'] / sums['on_instance'].clamp(min=1)
        if self.forbids:
            result['cue_false_negative_rate'] = sums['own'] / sums['owners'].clamp(min=1)
        return result


def exclusion_groups(image: Tensor, instance: Tensor | None, pool: str) -> Tensor:
    """Number the pixels so that those which must not be each other's negatives share a number.

    Args:
        image: Image per pixel (M,).
        instance: Instance per pixel (M,), unique in the batch, negative for none; None forbids
            none.
        pool: ``batch`` or ``cross_image``.

    Returns:
        Group per pixel (M,); a pixel is always in its own group.
    """
    if pool == 'cross_image':
        return image
    alone = torch.arange(len(image), device=image.device)
    # Numbers below zero cannot meet an instance's.
    return alone if instance is None else torch.where(instance >= 0, instance, -1 - alone)
