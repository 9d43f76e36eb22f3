"""mmdet's own Grounding DINO as the detector of a foundation teacher, with the configs and checkpoints of mmdet.

Zhao et al., "An Open and Comprehensive Pipeline for Unified Object Grounding and Detection" (MM-Grounding-DINO), arXiv
2401.02361.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmdet.models.language_models.bert import generate_masks_with_special_tokens_and_transfer_map
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from castkd.checkpoints import load_checkpoint, load_strict, student_state
from castkd.checks import check_file
from castkd.errors import CheckpointError, ConfigError
from castkd.hub import read_tokenizer, transformers
from castkd.registry import MODELS, build_model
from castkd.teachers.named_boxes import Grounded, NamedBoxes, image_shares, replaced
from castkd.teachers.prompts import Prompt

_OWNER = 'MMDetGroundingDINO'
# Older versions of the transformers library kept this constant in checkpoints.
_CONSTANT = 'language_model.language_backbone.body.model.embeddings.position_ids'


@MODELS.register_module()
class MMDetGroundingDINO(NamedBoxes):
    """mmdet's Grounding DINO or MM-Grounding-DINO: prompts made of class names to boxes.

    Prompts are made here, not by the network's own tokenizer calls, which the transformers library no longer has. The
    losses are mmdet's, those of its denoising queries included. The key ``backbone`` of ``paramwise_cfg`` gives the
    image backbone a rate of its own.

    Args:
        classes: Class names in the order of the labels.
        config: The network: a config file of mmdet (``grounding_dino_swin-l_pretrain_all.py``), or the ``model`` of
            one. Its text encoder (``language_model.name``) is a hub name or a folder with config, weights and
            tokenizer of BERT. Layers of its encoder are checkpointed (``encoder.num_cp``) where fairscale is installed.
        weights: Checkpoint file of mmdet with the first weights; None starts as the config says, which may fetch
            those of the image backbone.
        synonyms: See :class:`~castkd.teachers.named_boxes.NamedBoxes`, like the following.
        score_thr: Least score.
        max_per_image: Most boxes.
        test_scale: Size of images in prediction.

    Raises:
        ConfigError: When an option is wrong, or the config is of another network.
        DataError: When the config file is not there.
        CheckpointError: When text encoder or tokenizer are not there.
        MissingExtraError: When the transformers library is not installed.
    """

    def __init__(
        self,
        classes: Sequence[str],
        config: str | Mapping[str, Any],
        weights: str | None = None,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        score_thr: float = 0.3,
        max_per_image: int = 100,
        test_scale: tuple[int, int] | None = None,
    ) -> None:
        options = _options(config, weights)
        network = _network(options)
        super().__init__(
            network,
            options['language_model']['name'],
            network.bbox_head.max_text_len,
            classes,
            synonyms,
            score_thr,
            max_per_image,
            test_scale,
        )
        self.weights = weights

    @property
    def text_encoder(self) -> nn.Module:
        """Return the frozen part."""
        return self.network.language_model

    def init_weights(self) -> None:
        """Load the first weights.

        Raises:
            CheckpointError: When they are not there, or of another network.
        """
        if self.weights is None:
            self.network.init_weights()
            return
        state = student_state(load_checkpoint(self.weights))
        load_strict(self.network, state, self.weights, allow_unexpected=[_CONSTANT])

    def image_features(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the image backbone on images (B, 3, H, W), fine to coarse."""
        return list(self.network.backbone(images))

    def one_image_run(self) -> AbstractContextManager:
        """Return a context in which backbone and neck run on their first call alone."""
        run = self.network.extract_feat
        kept: list[tuple] = []

        def extract_feat(images: Tensor) -> tuple:
            if not kept:
                kept.append(run(images))
            return kept[0]

        return replaced(self.network, 'extract_feat', extract_feat)

    def answer(
        self, images: Tensor, samples: list, prompt: Prompt, *, learns: bool
    ) -> tuple[Tensor, Tensor, Any]:
        """Run the network, see :meth:`NamedBoxes.answer`."""
        network = self.network
        text = self._text(prompt, len(images))
        described = [
            self._described(images, sample, share, prompt)
            for sample, share in zip(samples, image_shares(images, samples).tolist(), strict=True)
        ]
        # With this flag, which its parts do not share, the network adds denoising queries.
        network.training = learns
        found = network.forward_transformer(network.extract_feat(images), text, described)
        network.training = self.training
        outputs = network.bbox_head(
            found['hidden_states'],
            found['references'],
            found['memory_text'],
            found['text_token_mask'],
        )
        # Denoising queries come first.
        logits, boxes = (item[-1][:, -network.num_queries :] for item in outputs)
        return logits, boxes, (found, described)

    def losses(
        self, grounded: Grounded, images: Tensor, samples: list, keep: list[int]
    ) -> dict[str, Tensor]:
        """Return mmdet's detection losses: focal over tokens, L1 and generalised IoU of boxes.

        They are summed over the decoder's layers, the proposals of the encoder and the denoising queries; arguments
        and result are those of :meth:`NamedBoxes.losses`.
        """
        found, described = grounded.outputs
        with torch.autocast(images.device.type, enabled=False):
            terms = self._head_losses(found, [described[index] for index in keep], keep)
        totals = dict.fromkeys(('loss_cls', 'loss_bbox', 'loss_iou'), 0.0)
        for name, value in terms.items():
            kind = next(kind for kind in totals if name.endswith(kind))
            totals[kind] = totals[kind] + value.sum()
        # What denoising alone uses has a gradient in every step, for distributed training.
        idle = sum(value.sum() for value in self.network.dn_query_generator.parameters())
        return {**totals, 'loss_bbox': totals['loss_bbox'] + 0.0 * idle}

    def _head_losses(
        self, found: Mapping[str, Any], described: list, keep: list[int]
    ) -> dict[str, Tensor]:
        """Return the losses of mmdet's head over some images."""
        return self.network.bbox_head.loss(
            hidden_states=found['hidden_states'][:, keep].float(),
            references=[item[keep].float() for item in found['references']],
            memory_text=found['memory_text'][keep].float(),
            text_token_mask=found['text_token_mask'][keep],
            enc_outputs_class=found['enc_outputs_class'][keep].float(),
            enc_outputs_coord=found['enc_outputs_coord'][keep].float(),
            dn_meta=found['dn_meta'],
            batch_data_samples=described,
        )

    def _text(self, prompt: Prompt, images: int) -> dict[str, Tensor]:
        """Return what the network reads of the prompt, once per image."""
        language = self.network.language_model
        tokens = torch.tensor([prompt.tokens], device=next(language.parameters()).device)
        mask, positions = generate_masks_with_special_tokens_and_transfer_map(
            {'input_ids': tokens}, language.special_tokens
        )
        text = language.language_backbone(
            {
                'input_ids': tokens,
                # Per head, as the transformers library wants it by now.
                'attention_mask': mask[:, None],
                'position_ids': positions,
                'token_type_ids': torch.zeros_like(tokens),
            }
        )
        read = {
            'embedded': self.network.text_feat_map(text['embedded']),
            'masks': mask,
            'position_ids': positions,
            'text_token_mask': torch.ones_like(tokens, dtype=torch.bool),
        }
        return {name: value.expand(images, *value.shape[1:]) for name, value in read.items()}

    def _described(
        self,
        images: Tensor,
        sample: Any,  # noqa: ANN401 - data samples
        share: Sequence[float],
        prompt: Prompt,
    ) -> DetDataSample:
        """Return the sample as mmdet's network wants it, in pixels of ``images``."""
        height, width = images.shape[-2:]
        shape = (round(share[1] * height), round(share[0] * width))
        described = DetDataSample(
            metainfo={'batch_input_shape': (height, width), 'img_shape': shape}
        )
        instances = InstanceData()
        if 'gt_instances' in sample:
            maps = prompt.token_maps(len(self.classes), self.network.bbox_head.max_text_len)
            maps = maps.to(images.device)[sample.gt_instances.labels]
            # Classes that the prompt had no room for are left out.
            named = maps.sum(1) > 0
            boxes = torch.as_tensor(sample.gt_instances.bboxes).float().to(images.device)
            instances.bboxes = boxes[named]
            instances.labels = sample.gt_instances.labels[named]
            instances.positive_maps = maps[named]
            mask = torch.ones(len(instances), len(prompt.tokens), dtype=torch.bool)
            instances.text_token_mask = mask.to(images.device)
        described.gt_instances = instances
        return described


def _options(config: str | Mapping[str, Any], weights: str | None) -> dict[str, Any]:
    """Return the config of the network alone."""
    if isinstance(config, (str, Path)):
        config = Config.fromfile(check_file(_OWNER, 'config', config)).get('model', {})
    options = copy.deepcopy(dict(config))
    kind = str(options.get('type', '')).removeprefix('mmdet.')
    language = options.get('language_model') or {}
    if kind != 'GroundingDINO' or not language.get('use_sub_sentence_represent'):
        raise ConfigError(
            f"{_OWNER}: config must be that of mmdet's GroundingDINO with use_sub_sentence_represent, got type {kind!r}"
        )
    options['type'] = 'mmdet.GroundingDINO'
    options['_scope_'] = 'mmdet'
    # The teacher prepares the images.
    options.pop('data_preprocessor', None)
    if weights is not None:
        options['backbone'] = {**options['backbone'], 'init_cfg': None}
    if find_spec('fairscale') is None:
        options['encoder'] = {**options['encoder'], 'num_cp': 0}
    return options


def _network(options: Mapping[str, Any]) -> nn.Module:
    """Build the network, whose text encoder is read from a folder or the hub."""
    name = options['language_model'].get('name', 'bert-base-uncased')
    transformers(_OWNER)
    read_tokenizer(name, _OWNER)
    try:
        network = build_model(options)
    except OSError as error:
        raise CheckpointError(
            f'{_OWNER}: the text encoder {name!r} cannot be read ({type(error).__name__}); connect once, or let '
            'language_model.name be a folder with config.json, model.safetensors and the tokenizer of BERT'
        ) from error
    network.decoder.ref_point_head.register_forward_pre_hook(_fit_encoding)
    return network


def _fit_encoding(head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Bring the encoding of boxes to the width of the head that reads it.

    OneDL's mmdet encodes with twice the frequencies of the published networks; every other one of them is theirs.
    """
    (encoded,) = inputs
    if encoded.shape[-1] == 2 * head.layers[0].in_features:
        encoded = encoded.unflatten(-1, (4, -1, 2))[..., ::2, :].flatten(-3)
    return (encoded,)
