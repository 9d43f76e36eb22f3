"""Time and peak memory of the pixel-wise contrastive loss beside its plain dense form.

    python benchmarks/contrastive.py --out contrastive.json

Each measurement runs in a process of its own: forward and backward, the fastest of ``--repeat`` runs, and the peak of the
resident memory above what the process held before the first run (on a GPU: of the allocated memory).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = {'703': (19, 37), '2812': (38, 74), '10952': (74, 148)}
IMAGES, WIDTH, QUERIES, CLASSES, MASK_SIZE = 4, 128, 100, 8, (148, 296)
# Whole matrices that the dense form holds at its peak, used to skip what cannot fit.
DENSE_MATRICES = 7


def dense_contrast(anchor, positive, mask_logits, cls_logits, num_negatives=200, temperature=0.2):  # noqa: ANN001, ANN201
    """Return the loss in its plainest form: whole (M, M) matrices, gradients by autograd."""
    import torch
    import torch.nn.functional as F

    images, _, height, width = anchor.shape
    z = F.normalize(anchor.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    target = F.normalize(positive.detach().permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    with torch.no_grad():
        masks = F.interpolate(mask_logits, (height, width), mode='bilinear', align_corners=False)
        over_queries = masks.flatten(2).transpose(1, 2).softmax(2)
        cue = torch.cat([over_queries, over_queries @ cls_logits.softmax(2)], dim=2).flatten(0, 1)
        cue = F.normalize(cue, dim=1)
        weights = (1 - cue @ cue.t()).clamp(min=0).fill_diagonal_(0)
        gumbel = -torch.log(-torch.log(torch.rand_like(weights) + 1e-6) + 1e-6)
        index = (weights.log() + gumbel).topk(num_negatives, dim=1).indices
    similarity = (z @ z.t()).gather(1, index)
    logits = torch.cat([(z * target).sum(1, keepdim=True), similarity], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(z), dtype=torch.long, device=z.device))


def make_inputs(size: tuple[int, int], device: str) -> tuple:
    """Return seeded anchor, positive, mask logits and class logits."""
    import torch

    torch.manual_seed(0)
    anchor = torch.randn(IMAGES, WIDTH, *size, device=device, requires_grad=True)
    positive = torch.randn(IMAGES, WIDTH, *size, device=device)
    masks = 4 * torch.randn(IMAGES, QUERIES, *MASK_SIZE, device=device)
    return anchor, positive, masks, torch.randn(IMAGES, QUERIES, CLASSES + 1, device=device)


def measure(form: str, pixels: str, device: str, repeat: int, chunk_size: int) -> dict:
    """Run one form at one size in this process and return seconds and peak MiB."""
    import psutil
    import torch

    from castkd.losses import InstancePixelContrast

    chunked = InstancePixelContrast(chunk_size=chunk_size)
    loss = {'chunked': chunked, 'dense': dense_contrast}[form]
    inputs = make_inputs(SIZES[pixels], device)
    before = psutil.Process().memory_info().rss
    seconds = []
    for _ in range(repeat):
        inputs[0].grad = None
        start = time.perf_counter()
        loss(*inputs).backward()
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if device == 'cuda':
        peak = torch.cuda.max_memory_allocated() - sum(x.nbytes for x in inputs)
    return {'seconds': min(seconds), 'peak_mib': peak / 2**20}
