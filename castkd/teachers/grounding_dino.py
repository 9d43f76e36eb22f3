"""Grounding DINO as the detector of a foundation teacher: boxes from class names, and its training.

Liu et al., "Grounding DINO", ECCV 2024; Zhao et al., "An Open and Comprehensive Pipeline for Unified Object Grounding
and Detection" (MM-Grounding-DINO), arXiv 2401.02361. Both are networks of the transformers library.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_xyxy_to_cxcywh
from mmengine.structures import InstanceData
from torch import Tensor, nn

from castkd.checks import check_choice, check_number
from castkd.errors import ConfigError
from castkd.hub import build_config, load_pretrained, read_config, read_tokenizer, transformers
from castkd.registry import MODELS
from castkd.teachers.prompts import Prompt, PromptMaker

_NETWORKS = {
    'grounding-dino': ('GroundingDinoConfig', 'GroundingDinoForObjectDetection'),
    'mm-grounding-dino': ('MMGroundingDinoConfig', 'MMGroundingDinoForObjectDetection'),
}
_OWNER = 'GroundingDINO'
# Weights of the loss terms in the library's own training; boxes have theirs in the network's config.
_CLASS_WEIGHT = 2.0


@dataclass
class Grounded:
    """What one run of the network gave.

    Attributes:
        outputs: Of the library's network.
        prompt: What it read.
    """

    outputs: Any
    prompt: Prompt


@MODELS.register_module()
class GroundingDINO(nn.Module):
    """Grounding DINO or MM-Grounding-DINO: prompts made of class names to boxes.

    In training the text encoder is frozen (and in eval mode), everything else trains; the key ``backbone`` of
    ``paramwise_cfg`` gives the image backbone a rate of its own.

    Args:
        classes: Class names in the order of the labels.
        weights: First weights, with config and tokenizer: a hub name (``IDEA-Research/grounding-dino-base``) or a
            folder, see :func:`castkd.hub.load_pretrained`. None starts from random weights, and needs the next two.
        config: Options of the network's config; ``model_type`` is ``grounding-dino`` or ``mm-grounding-dino``.
        tokenizer: Hub name or folder of the tokenizer; None takes that of ``weights``.
        synonyms: See :class:`~castkd.teachers.prompts.PromptMaker`.
        score_thr: Boxes need a score above it, in [0, 1].
        max_per_image: At most this many boxes of an image, the best first.
        test_scale: (short side, long side) in pixels, that images are resized within before they are predicted; None
            leaves their size. The public weights expect (800, 1333).

    Raises:
        ConfigError: When an option is wrong.
        CheckpointError: When config or tokenizer are not there.
        MissingExtraError: When the transformers library is not installed.
    """

    def __init__(
        self,
        classes: Sequence[str],
        weights: str | None = None,
        config: Mapping[str, Any] | None = None,
        tokenizer: str | None = None,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        score_thr: float = 0.3,
        max_per_image: int = 100,
        test_scale: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_number(_OWNER, 'score_thr', score_thr, low=0, high=1)
        check_number(_OWNER, 'max_per_image', max_per_image, low=1, integer=True)
        if (weights is None) == (config is None) or not (weights or tokenizer):
            raise ConfigError(f'{_OWNER}: give weights, or config and tokenizer')
        self.classes = tuple(classes)
        self.weights = weights
        self.score_thr = score_thr
        self.max_per_image = max_per_image
        self.test_scale = test_scale
        self.network = _network(weights, config)
        self.prompts = PromptMaker(
            read_tokenizer(tokenizer or weights, _OWNER),
            self.classes,
            synonyms,
            self.network.config.max_text_len,
        )
        self.text_encoder.requires_grad_(False)
        for name, parameter in self.network.named_parameters():
            # Nothing reads Swin's last norm; distributed training would wait for its gradient.
            if '.swin.layernorm.' in name:
                parameter.requires_grad_(False)

    @property
    def text_encoder(self) -> nn.Module:
        """Return the frozen part."""
        return self.network.model.text_backbone

    def train(self, mode: bool = True) -> GroundingDINO:
        """Set the mode of all but the frozen part."""
        super().train(mode)
        self.text_encoder.eval()
        return self

    def init_weights(self) -> None:
        """Load the first weights.

        Raises:
            CheckpointError: When they are not there.
        """
        if self.weights is not None:
            load_pretrained(self.network, self.weights, _OWNER)

    def image_features(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the image backbone on images (B, 3, H, W), fine to coarse."""
        mask = torch.ones(
            images.shape[0], *images.shape[2:], dtype=torch.long, device=images.device
        )
        maps, _ = self.network.model.backbone(images, mask)
        return [value for value, _ in maps]

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
        if prompt is None:
            labels = [sample.gt_instances.labels for sample in samples if 'gt_instances' in sample]
            present = torch.cat(labels).unique().tolist() if labels else []
            prompt = self.prompts.sampled(present)
        tokens = torch.tensor([prompt.tokens], device=images.device).expand(len(images), -1)
        outputs = self.network(
            pixel_values=images, pixel_mask=_valid(images, samples), input_ids=tokens
        )
        scores = prompt.class_scores(outputs.logits.float().sigmoid(), len(self.classes))
        boxes = outputs.pred_boxes.float() * _shares(images, samples)[:, None]
        return scores.logit(eps=1e-6), boxes, Grounded(outputs, prompt)

    @torch.no_grad()
    def predict(self, images: Tensor, samples: list) -> list[InstanceData]:
        """Return boxes of normalised images (B, 3, H, W).

        Returns:
            Per image ``bboxes`` (n, 4), corners in pixels of the input, ``scores`` and ``labels`` (n,), best first.
            Scores are those of all prompts; a box may come with two classes.
        """
        resized = self._resized(images)
        with _run_once(self.network.model.backbone):
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

    def losses(
        self, grounded: Grounded, images: Tensor, samples: list, keep: list[int]
    ) -> dict[str, Tensor]:
        """Return the detection losses: focal over tokens, L1 and generalised IoU of boxes, of every decoder layer.

        The proposals of the encoder are compared too, with a gradient to their boxes, which the library's own loss
        leaves out. Matching and weights (class 2, L1 5, generalised IoU 2) are the library's.

        Args:
            grounded: From :meth:`forward`, on the same images.
            images: (B, 3, H, W), for their size alone.
            samples: With ``gt_instances`` (``bboxes`` in pixels, ``labels``).
            keep: Indices of the images that are compared.

        Returns:
            ``loss_cls``, ``loss_bbox`` and ``loss_iou``, summed over the layers and the proposals.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self._losses(grounded, images, [samples[index] for index in keep], keep)

    def _losses(
        self, grounded: Grounded, images: Tensor, samples: list, keep: list[int]
    ) -> dict[str, Tensor]:
        config = self.network.config
        prompt = grounded.prompt
        maps = prompt.token_maps(len(self.classes), config.max_text_len).to(images.device)
        named = torch.arange(config.max_text_len, device=images.device) < len(prompt.tokens)
        targets = [_targets(sample, maps) for sample in samples]
        criterion = _criterion(config)
        totals = dict.fromkeys(('loss_ce', 'loss_bbox', 'loss_giou'), images.new_zeros(()))
        for logits, boxes in self._layers(grounded.outputs):
            compared = {
                'logits': logits[keep].float(),
                'pred_boxes': boxes[keep].float(),
                'label_maps': [maps] * len(samples),
                'text_mask': named.expand_as(logits[keep]),
            }
            for name, value in criterion(compared, targets).items():
                totals[name] = totals[name] + value
        return {
            'loss_cls': _CLASS_WEIGHT * totals['loss_ce'],
            'loss_bbox': config.bbox_loss_coefficient * totals['loss_bbox'],
            'loss_iou': config.giou_loss_coefficient * totals['loss_giou'],
        }

    def _layers(self, outputs: Any) -> list[tuple[Tensor, Tensor]]:  # noqa: ANN401 - the library's outputs
        """Return token logits and boxes of every decoder layer and of the proposals."""
        text = outputs.encoder_last_hidden_state_text
        readable = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        references = [outputs.init_reference_points]
        references += outputs.intermediate_reference_points.unbind(1)[:-1]
        layers = []
        for level, reference in enumerate(references):
            hidden = outputs.intermediate_hidden_states[:, level]
            logits = self.network.class_embed[level](hidden, text, readable)
            shift = self.network.bbox_embed[level](hidden)
            layers.append((logits, (shift + reference.logit(eps=1e-5)).sigmoid()))
        best = outputs.enc_outputs_class.amax(-1).topk(hidden.shape[1], dim=1).indices[..., None]
        proposals = outputs.enc_outputs_coord_logits.sigmoid()
        return [
            *layers,
            (
                outputs.enc_outputs_class.gather(1, best.expand(-1, -1, logits.shape[-1])),
                proposals.gather(1, best.expand(-1, -1, 4)),
            ),
        ]


@contextmanager
def _run_once(backbone: nn.Module) -> Iterator[None]:
    """Let the image backbone run on its first call alone while the context is open: prompts share the image."""
    run = backbone.forward
    kept: list[tuple[list, list]] = []

    def forward(*images: Tensor) -> tuple[list, list]:
        if not kept:
            kept.append(run(*images))
        # The network appends coarser levels to the lists that it gets.
        maps, positions = kept[0]
        return list(maps), list(positions)

    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward


def _network(weights: str | None, options: Mapping[str, Any] | None) -> nn.Module:
    """Return the library's network with random weights."""
    if weights is not None:
        config = read_config(weights, _OWNER)
        check_choice(_OWNER, f'model_type of {weights!r}', config.model_type, _NETWORKS)
    else:
        kind = options.get('model_type')
        check_choice(_OWNER, 'config.model_type', kind, _NETWORKS)
        rest = {key: value for key, value in options.items() if key != 'model_type'}
        config = build_config(_NETWORKS[kind][0], rest, _OWNER)
    if not config.two_stage:
        raise ConfigError(f'{_OWNER}: config.two_stage must be True')
    return getattr(transformers(_OWNER), _NETWORKS[config.model_type][1])(config)


def _valid(images: Tensor, samples: list) -> Tensor:
    """Return (B, H, W), 1 inside the images and 0 in their padding."""
    mask = torch.zeros(len(images), *images.shape[2:], dtype=torch.long, device=images.device)
    for one, share in zip(mask, _shares(images, samples).tolist(), strict=True):
        one[: round(share[1] * images.shape[2]), : round(share[0] * images.shape[3])] = 1
    return mask


def _shares(images: Tensor, samples: list) -> Tensor:
    """Return (B, 4): what parts of the padded width, height, width, height the images have."""
    shares = []
    for sample in samples:
        height, width = sample.metainfo['img_shape'][:2]
        whole = sample.metainfo['batch_input_shape']
        shares.append([width / whole[1], height / whole[0]] * 2)
    return torch.tensor(shares, device=images.device)


def _targets(sample: Any, maps: Tensor) -> dict[str, Tensor]:  # noqa: ANN401 - data samples
    """Return labels and boxes of an image; classes that the prompt had no room for are left out."""
    instances = sample.gt_instances
    height, width = sample.metainfo['img_shape'][:2]
    boxes = bbox_xyxy_to_cxcywh(torch.as_tensor(instances.bboxes).float().to(maps.device))
    labels = instances.labels.to(maps.device)
    named = maps.sum(1)[labels] > 0
    size = maps.new_tensor([width, height, width, height])
    return {'class_labels': labels[named], 'boxes': boxes[named] / size}


def _criterion(config: Any) -> nn.Module:  # noqa: ANN401 - the library's configs
    from transformers.loss import loss_grounding_dino as losses

    matcher = losses.GroundingDinoHungarianMatcher(
        class_cost=config.class_cost, bbox_cost=config.bbox_cost, giou_cost=config.giou_cost
    )
    return losses.GroundingDinoImageLoss(matcher, config.focal_alpha, ['labels', 'boxes'])
