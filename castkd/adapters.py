"""Adapters: how to run a network of one family as deep as a pass asks.

All calls go through the network's public methods, so a network needs no change to be a student or a teacher.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmdet.models.utils import unpack_gt_instances
from torch import Tensor, nn

from castkd.errors import ConfigError


class DetectionAdapter:
    """Runs any mmdet detector.

    Attributes:
        partial_loss: Whether a loss over some images of a batch still runs the head on all of them, so that taps
            see every image.
    """

    partial_loss = False

    def encode(self, network: nn.Module, inputs: Tensor) -> Any:  # noqa: ANN401 - features of any form
        """Run backbone and neck on ``inputs`` (B, 3, H, W)."""
        return network.extract_feat(inputs)

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the network with its head and return the raw outputs."""
        return network(inputs, samples, mode='tensor')

    def predict(self, network: nn.Module, inputs: Tensor, samples: list) -> list:
        """Return data samples with ``pred_instances`` in network-input coordinates."""
        return network.predict(inputs, [sample.clone() for sample in samples], rescale=False)

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Return the network's own losses over the images ``keep``.

        Without any image to keep, the losses of the whole batch are multiplied by zero: every parameter
        stays in the graph, and the process takes part in the sums that losses exchange with others.
        """
        if len(keep) == len(samples):
            return network.loss(inputs, samples)
        if not keep:
            return _times_zero(network.loss(inputs, samples))
        return network.loss(inputs[keep], [samples[index] for index in keep])


class QuerySegmentorAdapter(DetectionAdapter):
    """Runs MaskFormer-like segmentors: one mask and one class distribution per query."""

    partial_loss = True

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the head as a module, so that forward hooks on it fire."""
        return network.panoptic_head(network.extract_feat(inputs), samples)

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Run the head on the whole batch and take the set loss over the images ``keep``."""
        if not keep or len(keep) == len(samples):
            return super().loss(network, inputs, samples, keep)
        head = network.panoptic_head
        cls_scores, mask_preds = self.forward(network, inputs, samples)
        chosen = [samples[index] for index in keep]
        targets = head.preprocess_gt(
            [sample.gt_instances for sample in chosen],
            [sample.get('gt_sem_seg') for sample in chosen],
        )
        return head.loss_by_feat(
            [scores[keep] for scores in cls_scores],
            [masks[keep] for masks in mask_preds],
            targets,
            [sample.metainfo for sample in chosen],
        )


class GridMaskAdapter(DetectionAdapter):
    """Runs SOLO-like segmentors: one mask and one class score per cell of a grid, no box head."""

    partial_loss = True

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the head as a module, so that forward hooks on it fire."""
        return network.mask_head(network.extract_feat(inputs))

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Run the head on the whole batch and take its loss over the images ``keep``."""
        if not keep or len(keep) == len(samples):
            return super().loss(network, inputs, samples, keep)
        outputs = self.forward(network, inputs, samples)
        chosen = [samples[index] for index in keep]
        instances, ignored, metas = unpack_gt_instances(chosen)
        for targets, meta in zip(instances, metas, strict=True):
            targets.masks = targets.masks.pad(meta['batch_input_shape'])
        return network.mask_head.loss_by_feat(
            *_of_images(outputs, keep),
            batch_gt_instances=instances,
            batch_img_metas=metas,
            batch_gt_instances_ignore=ignored,
        )


def _of_images(outputs: Any, keep: list[int]) -> Any:  # noqa: ANN401 - nested lists of tensors
    if torch.is_tensor(outputs):
        return outputs[keep]
    return [_of_images(output, keep) for output in outputs]


def adapter_for(network: nn.Module) -> DetectionAdapter:
    """Return the adapter of a network's family.

    Raises:
        ConfigError: When the network is of no known family.
    """
    if hasattr(network, 'panoptic_head'):
        return QuerySegmentorAdapter()
    if _has_head(network, 'mask_head') and not _has_head(network, 'bbox_head'):
        return GridMaskAdapter()
    if hasattr(network, 'extract_feat') and hasattr(network, 'loss'):
        return DetectionAdapter()
    raise ConfigError(
        f'{type(network).__name__} is neither an mmdet detector nor an mmseg segmentor: '
        'it has no extract_feat and loss methods'
    )


def _has_head(network: nn.Module, name: str) -> bool:
    return getattr(network, name, None) is not None


@contextmanager
def frozen_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms as they are while the context is open.

    The layers still normalise with the batch's own statistics when they train.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    for module in norms:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in norms:
            module.track_running_stats = True


def _times_zero(losses: dict) -> dict:
    return {
        name: [item * 0.0 for item in value] if isinstance(value, list) else value * 0.0
        for name, value in losses.items()
        if 'loss' in name and torch.is_tensor(value[0] if isinstance(value, list) else value)
    }
