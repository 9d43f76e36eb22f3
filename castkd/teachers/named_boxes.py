"""What detectors of named things share: prompts of class names, and boxes out of what they answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.structures import InstanceData
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.hub import read_tokenizer
from castkd.teachers.prompts import Prompt, PromptMaker


@dataclass
class Grounded:
    """What one run of a network gave.

    Attributes:
        outputs: Of the network, whatever its losses need.
        prompt: What it read.
    """

    outputs: Any
    prompt: Prompt


class NamedBoxes(nn.Module, ABC):
    """A detector that reads class names as text.

    In training its text encoder is frozen (and in eval mode), everything else trains.

    Args:
        network: The network.
        tokenizer: Hub name or folder of its tokenizer.
        max_tokens: Tokens of a prompt, at most.
        classes: Class names in the order of the labels.
        synonyms: See :class:`~castkd.teachers.prompts.PromptMaker`.
        score_thr: Boxes need a score above it, in [0, 1].
        max_per_image: At most this many boxes of an image, the best first.
        test_scale: (short side, long side) in pixels, that images are resized within before they are predicted; None
            leaves their size. The public weights expect (800, 1333).

    Raises:
        ConfigError: When an option is wrong.
        CheckpointError: When the tokenizer is not there.
    """

    def __init__(
        self,
        network: nn.Module,
        tokenizer: str,
        max_tokens: int,
        classes: Sequence[str],
        synonyms: Mapping[str, Sequence[str]] | None,
        score_thr: float,
        max_per_image: int,
        test_scale: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        check_number(owner, 'score_thr', score_thr, low=0, high=1)
        check_number(owner, 'max_per_image', max_per_image, low=1, integer=True)
        self.classes = tuple(classes)
        self.score_thr = score_thr
        self.max_per_image = max_per_image
        self.test_scale = test_scale
        self.network = network
        self.prompts = PromptMaker(
            read_tokenizer(tokenizer, owner), self.classes, synonyms, max_tokens
        )
        self.text_encoder.requires_grad_(False)

    @property
    @abstractmethod
    def text_encoder(self) -> nn.Module:
        """Return the frozen part."""

    @abstractmethod
    def image_features(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the image backbone on images (B, 3, H, W), fine to coarse."""

    @abstractmethod
    def one_image_run(self) -> AbstractContextManager:
        """Return a context in which the image backbone runs on its first call alone: prompts share the images."""

    def train(self, mode: bool = True) -> NamedBoxes:
        """Set the mode of all but the frozen part."""
        super().train(mode)
        self.text_encoder.eval()
        return self

    @abstractmethod
    def answer(
        self, images: Tensor, samples: list, prompt: Prompt, *, learns: bool
    ) -> tuple[Tensor, Tensor, Any]:
        """Run the network.

        Args:
            images: Normalised, (B, 3, H, W).
            samples: Data samples.
            prompt: What to read.
            learns: Whether losses may follow, on the samples' ``gt_instances``.

        Returns:
            Logits (B, Q, T) of the prompt's tokens for every query, boxes (B, Q, 4) of the queries, as centre and size
            in parts of the images without their padding, and what losses need.
        """

    @abstractmethod
    def losses(
        self, grounded: Grounded, images: Tensor, samples: list, keep: list[int]
    ) -> dict[str, Tensor]:
        """Return the detection losses.

        Args:
            grounded: From :meth:`forward`, on the same images.
            images: (B, 3, H, W).
            samples: With ``gt_instances`` (``bboxes`` in pixels, ``labels``).
            keep: Indices of the images that are compared.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``loss_iou``, each over all that the network predicts.
        """

    def forward(
        self, images: Tensor, samples: list, prompt: Prompt | None = None
    ) -> tuple[Tensor, Tensor, Grounded]:
        """Run the network.

        Args:
            images: Normalised, (B, 3, H, W).
            samples: Data samples; in training their ``gt_instances.labels`` say which classes must be named.
            prompt: What to read; None makes a prompt to train with.

        Returns:
            Class logits (B, Q, C) and boxes (B, Q, 4) of the queries, as centre and size in parts of H and W; and what
            :meth:`losses` needs.
        """
        learns = prompt is None and all('gt_instances' in sample for sample in samples)
        if prompt is None:
            labels = [sample.gt_instances.labels for sample in samples if 'gt_instances' in sample]
            present = torch.cat(labels).unique().tolist() if labels else []
            prompt = self.prompts.sampled(present)
        tokens, boxes, outputs = self.answer(images, samples, prompt, learns=learns)
        scores = prompt.class_scores(tokens.float().sigmoid(), len(self.classes))
        boxes = boxes.float() * image_shares(images, samples)[:, None]
        return scores.logit(eps=1e-6), boxes, Grounded(outputs, prompt)

    @torch.no_grad()
    def predict(self, images: Tensor, samples: list) -> list[InstanceData]:
        """Return boxes of normalised images (B, 3, H, W).

        Returns:
            Per image ``bboxes`` (n, 4), corners in pixels of the input, ``scores`` and ``labels`` (n,), best first.
            Scores are those of all prompts; a box may come with two classes.
        """
        resized = self._resized(images)
        with self.one_image_run():
            found = [self(resized, samples, prompt)[:2] for prompt in self.prompts.whole]
        height, width = images.shape[-2:]
        size = images.new_tensor([width, height, width, height], dtype=torch.float32)
        results = []
        for index, sample in enumerate(samples):
            scores = torch.cat([logits[index] for logits, _ in found]).sigmoid()
            boxes = torch.cat([boxes[index] for _, boxes in found])
            best = scores.flatten().topk(min(self.max_per_image, scores.numel()))
            kept = best.indices[best.values > self.score_thr]
            corners = bbox_cxcywh_to_xyxy(boxes[kept // len(self.classes)]) * size
            shape = sample.metainfo['img_shape'][:2]
            corners[:, 0::2].clamp_(0, shape[1])
            corners[:, 1::2].clamp_(0, shape[0])
            results.append(
                InstanceData(
                    bboxes=corners,
                    scores=scores.flatten()[kept],
                    labels=kept % len(self.classes),
                )
            )
        return results

    def _resized(self, images: Tensor) -> Tensor:
        if self.test_scale is None:
            return images
        short, long = sorted(images.shape[-2:])
        factor = min(self.test_scale[0] / short, self.test_scale[1] / long)
        size = [round(side * factor) for side in images.shape[-2:]]
        return F.interpolate(images, size=size, mode='bilinear', align_corners=False)


@contextmanager
def replaced(owner: nn.Module, name: str, method: Callable) -> Iterator[None]:
    """Let an object have another method while the context is open."""
    setattr(owner, name, method)
    try:
        yield
    finally:
        delattr(owner, name)


def valid_pixels(images: Tensor, samples: list) -> Tensor:
    """Return (B, H, W), 1 inside the images and 0 in their padding."""
    mask = torch.zeros(len(images), *images.shape[2:], dtype=torch.long, device=images.device)
    for one, share in zip(mask, image_shares(images, samples).tolist(), strict=True):
        one[: round(share[1] * images.shape[2]), : round(share[0] * images.shape[3])] = 1
    return mask


def image_shares(images: Tensor, samples: list) -> Tensor:
    """Return (B, 4): what parts of the padded width, height, width, height the images have."""
    shares = []
    for sample in samples:
        height, width = sample.metainfo['img_shape'][:2]
        whole = sample.metainfo['batch_input_shape']
        shares.append([width / whole[1], height / whole[0]] * 2)
    return torch.tensor(shares, device=images.device)
