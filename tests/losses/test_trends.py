"""Trends that CAST's authors report: which cue draws fewer false negatives, and what the weight of the loss does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from castkd.heads import ProjectionHead
from castkd.losses import InstancePixelContrast

SIDE, IMAGES = 12, 3


CLASSES = torch.tensor([0, 0, 0, 0, 1, 0, 0, 0, 0])


def touching_cells():
    """Return ids (B, h, w) of nine touching cells, eight of them of one class, unsure masks and sure classes."""
    rows = torch.arange(SIDE) // 4
    ids = (3 * rows[:, None] + rows[None]).expand(IMAGES, SIDE, SIDE)
    masks = 3.0 * F.one_hot(ids, 9).permute(0, 3, 1, 2)
    classes = torch.full((IMAGES, 9, 4), -1.0)
    classes[:, torch.arange(9), CLASSES] = 2.0
    return ids, masks + torch.randn_like(masks), classes


def false_negative_rate(cue, seed):
    torch.manual_seed(seed)
    ids, masks, classes = touching_cells()
    loss = InstancePixelContrast(num_negatives=200, cue=cue, forbid_same_instance=False)
    features = torch.randn(2, IMAGES, 8, SIDE, SIDE)
    loss(*features, masks, classes, instance_ids=ids)
    return loss.last_statistics['false_negative_rate'].item()


def test_fused_cue_draws_fewest_false_negatives():
    """Fused below class-only below uniform when instances of one class touch.

    More negatives are drawn than there are pixels of the other class, so that a cue of classes has to take the rest
    from its own class, blindly.
    """
    rates = {
        cue: np.mean([false_negative_rate(cue, seed) for seed in range(5)])
        for cue in ('fused', 'class', 'uniform')
    }
    # Nine instances an image, three images: chance is (16 - 1) / (432 - 1).
    assert rates['uniform'] == pytest.approx(15 / 431, abs=0.002)
    assert rates['fused'] < 0.5 * rates['class']
    assert rates['class'] < 0.9 * rates['uniform']


class Blobs(nn.Module):
    """A small encoder that learns classes, and images whose instances differ less than their classes."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)
        )
        self.head = nn.Conv2d(16, 3, 1)
        self.projector = ProjectionHead(16, hidden_channels=16, out_channels=8)
        self.ids, *self.queries = touching_cells()
        colors = torch.randn(3, 3)[CLASSES] + 0.15 * torch.randn(9, 3)
        self.images = colors[self.ids].permute(0, 3, 1, 2)

    def separation(self, weight, steps=20):
        """Train with this weight of the contrastive loss and return its first and its mean last separation."""
        contrast = InstancePixelContrast(num_negatives=40, temperature=0.2)
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        history = []
        for _ in range(steps):
            weak, strong = (self.images + 0.3 * torch.randn_like(self.images) for _ in range(2))
            features = self.encoder(weak)
            with torch.no_grad():
                target = self.projector(self.encoder(strong))
            pixel = contrast(self.projector(features), target, *self.queries, instance_ids=self.ids)
            loss = F.cross_entropy(self.head(features), CLASSES[self.ids]) + weight * pixel
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(contrast.last_statistics['separation'].item())
        return history[0], np.mean(history[-5:])


def test_separation_grows_with_training_and_with_the_weight():
    """The margin between positives and negatives, for lambda_pxl 0.01, 0.1, 0.5, mean of four runs."""
    runs = [[Blobs(seed).separation(weight) for seed in range(4)] for weight in (0.01, 0.1, 0.5)]
    (first, small), (_, medium), (_, large) = np.mean(runs, axis=1)
    assert first + 0.05 < small
    assert small + 0.02 < medium < large - 0.02
