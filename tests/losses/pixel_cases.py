"""Inputs for the tests of the pixel-wise contrastive loss."""

import math

import torch

from castkd.losses import debias_weights

ALL = None  # as num_negatives: every candidate


def random_case(images=2, size=(3, 4), width=6, queries=5, classes=3, dtype=torch.float32):
    height, columns = size
    return {
        'anchor': torch.randn(images, width, *size, dtype=dtype),
        'positive': torch.randn(images, width, *size, dtype=dtype),
        'mask_logits': 3 * torch.randn(images, queries, 2 * height, 2 * columns, dtype=dtype),
        'cls_logits': 2 * torch.randn(images, queries, classes + 1, dtype=dtype),
    }


def single_anchor(cosines, positive=1.0, width=None):
    """Return a call's inputs with one anchor: pixel 0, whose candidates have the given cosines."""
    count = len(cosines)
    width = width or count + 2
    anchor, target = torch.zeros(count + 1, width), torch.zeros(count + 1, width)
    anchor[0, 0] = target[0, 0] = 1.0
    target[0] = 0.0
    target[0, 0], target[0, -1] = positive, math.sqrt(1 - positive**2)
    anchor[1:, 0] = torch.tensor(cosines)
    for row, cosine in enumerate(cosines, start=1):
        anchor[row, min(row, width - 2)] = math.sqrt(1 - cosine**2)
    masks = torch.full((1, 1, 1, count + 1), -1.0)
    masks[..., 0] = 1.0
    return {
        'anchor': anchor.T.reshape(1, width, 1, -1),
        'positive': target.T.reshape(1, width, 1, -1),
        'mask_logits': masks,
        'cls_logits': torch.zeros(1, 1, 2),
    }


def oracle(inputs, temperature, pool='batch', cue='fused', hinge=None, valid=None, ids=None):
    """Return the loss with every candidate, from loops over anchors and candidates."""
    images, _, height, width = inputs['anchor'].shape
    pixels = [(b, y, x) for b in range(images) for y in range(height) for x in range(width)]
    if valid is not None:
        pixels = [pixel for pixel in pixels if valid[pixel]]
    weights = debias_weights(inputs['mask_logits'], inputs['cls_logits'], (height, width), cue)

    def vector(name, b, y, x):
        raw = inputs[name][b, :, y, x].double()
        return raw / raw.norm()

    terms = []
    for p in pixels:
        anchor, total = vector('anchor', *p), 0.0
        for q in pixels:
            weight = weights[p[0], p[1] * width + p[2], q[0], q[1] * width + q[2]]
            same_instance = ids is not None and p[0] == q[0] and ids[p] == ids[q] >= 0
            if p == q or same_instance or weight == 0 or (pool == 'cross_image' and p[0] == q[0]):
                continue
            similarity = float(anchor @ vector('anchor', *q)) / temperature
            total += math.exp(max(similarity - hinge, 0) if hinge else similarity)
        positive = math.exp(float(anchor @ vector('positive', *p)) / temperature)
        if total > 0:
            terms.append(-math.log(positive / (positive + total)))
    return sum(terms) / len(terms)
