"""Grounding DINO as the detector of a foundation teacher: boxes from class names, and its training.

Liu et al., "Grounding DINO", ECCV 2024; Zhao et al., "An Open and Comprehensive Pipeline for Unified Object Grounding
and Detection" (MM-Grounding-DINO), arXiv 2401.02361. Both are networks of the transformers library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from mmdet.structures.bbox import bbox_xyxy_to_cxcywh
from torch import Tensor, nn

from castkd.checks import check_choice
from castkd.errors import ConfigError
from castkd.hub import build_config, load_pretrained, read_config, transformers
from castkd.registry import MODELS
from castkd.teachers.named_boxes import Grounded, NamedBoxes, replaced, valid_pixels
from castkd.teachers.prompts import Prompt

_NETWORKS = {
    'grounding-dino': ('GroundingDinoConfig', 'GroundingDinoForObjectDetection'),
    'mm-grounding-dino': ('MMGroundingDinoConfig', 'MMGroundingDinoForObjectDetection'),
}
_OWNER = 'GroundingDINO'
# Weights of the loss terms in the library's own training; boxes have theirs in the network's config.
_CLASS_WEIGHT = 2.0


@MODELS.register_module()
class GroundingDINO(NamedBoxes):
    """Grounding DINO or MM-Grounding-DINO: prompts made of class names to boxes.

    The key ``backbone`` of ``paramwise_cfg`` gives the image backbone a rate of its own.

    Args:
        classes: Class names in the order of the labels.
        weights: First weights, with config and tokenizer: a hub name (``IDEA-Research/grounding-dino-base``) or a
            folder, see :func:`castkd.hub.load_pretrained`. None starts from random weights, and needs the next two.
        config: Options of the network's config; ``model_type`` is ``grounding-dino`` or ``mm-grounding-dino``.
        tokenizer: Hub name or folder of the tokenizer; None takes that of ``weights``.
        synonyms: See :class:`~castkd.teachers.named_boxes.NamedBoxes`, like the following.
        score_thr: Least score.
        max_per_image: Most boxes.
        test_scale: Size of images in prediction.

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
        if (weights is None) == (config is None) or not (weights or tokenizer):
            raise ConfigError(f'{_OWNER}: give weights, or config and tokenizer')
        network = _network(weights, config)
        super().__init__(
            network,
            tokenizer or weights,
            network.config.max_text_len,
            classes,
            synonyms,
            score_thr,
            max_per_image,
            test_scale,
        )
        self.weights = weights
        for name, parameter in self.network.named_parameters():
            # Nothing reads Swin's last norm; distributed training would wait for its gradient.
            if '.swin.layernorm.' in name:
                parameter.requires_grad_(False)

    @property
    def text_encoder(self) -> nn.Module:
        """Return the frozen part."""
        return self.network.model.text_backbone

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

    def one_image_run(self) -> AbstractContextManager:
        """Return a context in which the image backbone runs on its first call alone."""
        backbone = self.network.model.backbone
        run = backbone.forward
        kept: list[tuple[list, list]] = []

        def forward(*images: Tensor) -> tuple[list, list]:
            if not kept:
                kept.append(run(*images))
            # The network appends coarser levels to the lists that it gets.
            maps, positions = kept[0]
            return list(maps), list(positions)

        return replaced(backbone, 'forward', forward)

    def answer(
        self, images: Tensor, samples: list, prompt: Prompt, *, learns: bool
    ) -> tuple[Tensor, Tensor, Any]:
        """Run the network, see :meth:`NamedBoxes.answer`."""
        del learns
        tokens = torch.tensor([prompt.tokens], device=images.device).expand(len(images), -1)
        outputs = self.network(
            pixel_values=images, pixel_mask=valid_pixels(images, samples), input_ids=tokens
        )
        return outputs.logits, outputs.pred_boxes, outputs

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
