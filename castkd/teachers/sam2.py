"""SAM 2 as the segmenter of a foundation teacher: one mask per box, and its training from true boxes.

Ravi et al., "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714; a network of the transformers library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.losses.dice_loss import dice_loss
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.hub import build_config, load_pretrained, read_config, transformers
from castkd.registry import MODELS

_OWNER = 'SAM2'
_FOCAL_WEIGHT = 20.0


@MODELS.register_module()
class SAM2(nn.Module):
    """SAM 2 with box prompts, a single mask per box.

    An image is brought to the network's square (1024 x 1024) without its padding. In training the prompt encoder and
    the mask decoder are adapted. Frozen are the image encoder, in eval mode, and the parts that a single mask from a
    box never uses: prompts of masks, further masks, heads of mask quality and of the object score.

    Args:
        weights: First weights with config, a hub name (``facebook/sam2.1-hiera-large``) or a folder, see
            :func:`castkd.hub.load_pretrained`. None starts from random weights and needs ``config``.
        config: Options of the library's ``Sam2Config``.
        boxes_per_run: Boxes that the mask decoder takes at once.
        masks_per_image: In training at most this many instances of an image, drawn at random: their masks are
            compared at the network's input size.

    Raises:
        ConfigError: When an option is wrong.
        CheckpointError: When the config is not there.
        MissingExtraError: When the transformers library is not installed.
    """

    def __init__(
        self,
        weights: str | None = None,
        config: Mapping[str, Any] | None = None,
        boxes_per_run: int = 32,
        masks_per_image: int = 16,
    ) -> None:
        super().__init__()
        check_number(_OWNER, 'boxes_per_run', boxes_per_run, low=1, integer=True)
        check_number(_OWNER, 'masks_per_image', masks_per_image, low=1, integer=True)
        if (weights is None) == (config is None):
            raise ConfigError(f'{_OWNER}: give weights or config, one of them')
        self.weights = weights
        self.boxes_per_run = boxes_per_run
        self.masks_per_image = masks_per_image
        if config is not None:
            options = build_config('Sam2Config', config, _OWNER)
        else:
            # The public weights are saved as those of the video model, which holds this one.
            options = read_config(weights, _OWNER, 'Sam2Config')
        self.network = transformers(_OWNER).Sam2Model(options)
        self.size = self.network.prompt_encoder.input_image_size
        self.requires_grad_(False)
        for module in self._trained():
            module.requires_grad_(True)

    def _trained(self) -> list[nn.Module]:
        prompts, decoder = self.network.prompt_encoder, self.network.mask_decoder
        return [
            prompts.no_mask_embed,
            prompts.point_embed,
            prompts.not_a_point_embed,
            decoder.iou_token,
            decoder.mask_tokens,
            decoder.obj_score_token,
            decoder.transformer,
            decoder.upscale_conv1,
            decoder.upscale_conv2,
            decoder.upscale_layer_norm,
            decoder.output_hypernetworks_mlps[0],
        ]

    def train(self, mode: bool = True) -> SAM2:
        """Set the mode of all but the image encoder."""
        super().train(mode)
        self.network.vision_encoder.eval()
        return self

    def init_weights(self) -> None:
        """Load the first weights.

        Raises:
            CheckpointError: When they are not there.
        """
        if self.weights is not None:
            load_pretrained(self.network, self.weights, _OWNER)

    def _embeddings(self, image: Tensor) -> list[Tensor]:
        """Return the frozen features of one image (3, h, w) without padding."""
        square = F.interpolate(
            image[None], size=(self.size, self.size), mode='bilinear', align_corners=False
        )
        return self.network.get_image_embeddings(square)

    def forward(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return mask logits (n, m, m), on the decoder's grid, and their quality (n,) in [0, 1] for boxes.

        Args:
            image: Normalised and without padding, (3, h, w).
            boxes: (n, 4), n > 0, corners in pixels.
        """
        height, width = image.shape[-2:]
        scale = boxes.new_tensor([self.size / width, self.size / height] * 2)
        embeddings = self._embeddings(image)
        masks, quality = [], []
        for prompts in (boxes * scale).split(self.boxes_per_run):
            found = self.network(
                image_embeddings=embeddings, input_boxes=prompts[None], multimask_output=False
            )
            masks.append(found.pred_masks[0, :, 0])
            quality.append(found.iou_scores[0, :, 0])
        return torch.cat(masks), torch.cat(quality).float().clamp(0, 1)

    @torch.no_grad()
    def predict(
        self, image: Tensor, boxes: Tensor, shape: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return masks (n, *shape), bool, and their quality (n,) for boxes; arguments as of :meth:`forward`.

        A pixel belongs to a mask with a probability above a half.
        """
        if not len(boxes):
            return boxes.new_zeros((0, *shape), dtype=torch.bool), boxes.new_zeros(0)
        logits, quality = self(image, boxes)
        masks = [
            F.interpolate(part[:, None].float(), size=shape, mode='bilinear', align_corners=False)[
                :, 0
            ]
            > 0
            # At image size, logits of all boxes at once take gigabytes.
            for part in logits.split(self.boxes_per_run)
        ]
        return torch.cat(masks), quality

    def losses(self, images: Tensor, samples: list) -> dict[str, Tensor]:
        """Return 20 * focal (alpha 0.25, gamma 2) + dice of the masks of true boxes, averaged over the masks.

        Args:
            images: Normalised, (B, 3, H, W).
            samples: With ``gt_instances`` (``bboxes`` in pixels and ``masks``).

        Returns:
            ``loss_focal`` and ``loss_mask_dice``, weighted; zero without any instance.
        """
        predicted, wanted = [], []
        for image, sample in zip(images, samples, strict=True):
            if not len(sample.gt_instances):
                continue
            instances = sample.gt_instances
            chosen = torch.randperm(len(instances))[: self.masks_per_image]
            height, width = sample.metainfo['img_shape'][:2]
            boxes = torch.as_tensor(instances.bboxes)[chosen.to(instances.bboxes.device)]
            logits, _ = self(image[:, :height, :width], boxes.float())
            masks = torch.from_numpy(instances.masks.masks[chosen.numpy(), :height, :width])
            predicted.append(logits)
            wanted.append(self._square(masks.to(image.device).float()) > 0.5)
        if not predicted:
            nothing = 0.0 * sum(value.sum() for value in self.parameters() if value.requires_grad)
            return {'loss_focal': nothing, 'loss_mask_dice': nothing}
        with torch.autocast(images.device.type, enabled=False):
            logits = self._square(torch.cat(predicted).float()).flatten(1)
            targets = torch.cat(wanted).flatten(1).float()
            focal = py_sigmoid_focal_loss(logits, targets, gamma=2.0, alpha=0.25)
            dice = dice_loss(logits.sigmoid(), targets, eps=1.0, naive_dice=True)
        return {'loss_focal': _FOCAL_WEIGHT * focal, 'loss_mask_dice': dice}

    def _square(self, maps: Tensor) -> Tensor:
        size = (self.size, self.size)
        return F.interpolate(maps[:, None], size=size, mode='bilinear', align_corners=False)[:, 0]
