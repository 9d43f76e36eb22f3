"""DINOv2 as the backbone of a dense prediction network: a plain transformer with four maps reassembled from it.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024; the reassembly is that of
Ranftl et al., "Vision Transformers for Dense Prediction", ICCV 2021, as the student of CAST (arXiv 2505.21904) has it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from castkd.checks import check_choice
from castkd.errors import ConfigError
from castkd.hub import build_config, load_pretrained, transformers
from castkd.registry import MODELS

# Width, blocks and heads; the public weights are of images of 518 x 518 pixels.
_SIZES = {'small': (384, 12, 6), 'base': (768, 12, 12), 'large': (1024, 24, 16)}


@MODELS.register_module()
class DINOv2Backbone(BaseModule):
    """The transformers library's DINOv2 and four maps made from its blocks.

    Blocks at a quarter, half, three quarters and the whole of the depth (3, 6, 9, 12 of 12) are normalised by the last
    LayerNorm; the class token is dropped. Per map follow a 1 x 1 convolution and a transposed convolution of stride 4,
    one of stride 2, nothing, and a 3 x 3 convolution of stride 2. All weights train but the mask token, which belongs
    to pretraining.

    Images are padded on the right and below to multiples of the patch (14 pixels). Whoever relates the maps to pixels
    (masks, boxes) must know the padded size: let the data preprocessor pad, ``pad_size_divisor=14``; a network that
    has to pad by itself says so once.

    Args:
        encoder: ``small``, ``base`` or ``large``, or options of the library's ``Dinov2Config``.
        channels: Width of the four maps, fine to coarse.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` names the encoder's first weights: a model of the hub
            (``facebook/dinov2-small``) or a folder, see :func:`castkd.hub.load_pretrained`. None starts from random
            weights.

    Shape:
        Images (B, 3, H, W) to four maps (B, channels[i], h, w). With H and W multiples of 14, the third has
        H / 14 x W / 14 pixels, the first two 4 and 2 times as many a side, the last half, rounded up.

    Raises:
        ConfigError: When an option is wrong.
        MissingExtraError: When the transformers library is not installed.
    """

    def __init__(
        self,
        encoder: str | Mapping[str, Any] = 'small',
        channels: Sequence[int] = (96, 192, 384, 768),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if init_cfg is not None:
            check_choice('DINOv2Backbone', 'init_cfg.type', init_cfg.get('type'), ('Pretrained',))
        check_choice('DINOv2Backbone', 'number of channels', len(channels), (4,))
        self.encoder = _encoder(encoder)
        width = self.encoder.config.hidden_size
        self.patch = self.encoder.config.patch_size
        self.reassembly = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, own, 1), scale)
            for own, scale in zip(channels, _scales(channels), strict=True)
        )
        self._said_padding = False

    def init_weights(self) -> None:
        """Load the encoder's first weights; without any it keeps those it was built with.

        Raises:
            CheckpointError: When they are not there, or belong to another network.
        """
        if self.init_cfg is not None and not self.is_init:
            load_pretrained(self.encoder, self.init_cfg['checkpoint'], 'DINOv2Backbone')
        self.is_init = True

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the four maps of normalised images (B, 3, H, W), fine to coarse."""
        rows, columns = (-side % self.patch for side in images.shape[-2:])
        if rows or columns:
            self._say_padding(images)
            images = F.pad(images, (0, columns, 0, rows))
        maps = self.encoder(images).feature_maps
        return tuple(part(value) for part, value in zip(self.reassembly, maps, strict=True))

    def _say_padding(self, images: Tensor) -> None:
        if not self._said_padding:
            self._said_padding = True
            print_log(
                f'DINOv2Backbone pads images of {tuple(images.shape[-2:])} to multiples of {self.patch}; masks and '
                f'boxes fit exactly when data_preprocessor.pad_size_divisor={self.patch} pads them',
                'current',
                logging.WARNING,
            )


def _scales(channels: Sequence[int]) -> list[nn.Module]:
    """Return what brings the maps, all of stride 14, to strides 3.5, 7, 14 and 28."""
    return [
        nn.ConvTranspose2d(channels[0], channels[0], 4, stride=4),
        nn.ConvTranspose2d(channels[1], channels[1], 2, stride=2),
        nn.Identity(),
        nn.Conv2d(channels[3], channels[3], 3, stride=2, padding=1),
    ]


def _encoder(options: str | Mapping[str, Any]) -> nn.Module:
    """Return the library's network with random weights."""
    if isinstance(options, str):
        check_choice('DINOv2Backbone', 'encoder', options, _SIZES)
        names = ('hidden_size', 'num_hidden_layers', 'num_attention_heads')
        options = {**dict(zip(names, _SIZES[options], strict=True)), 'image_size': 518}
    config = build_config('Dinov2Config', options, 'DINOv2Backbone')
    blocks = config.num_hidden_layers
    if blocks % 4:
        raise ConfigError(
            f'DINOv2Backbone: encoder.num_hidden_layers must be a multiple of 4, got {blocks}; maps are read after '
            'each quarter of the blocks'
        )
    config.out_indices = [blocks * quarter // 4 for quarter in (1, 2, 3, 4)]
    encoder = transformers('DINOv2Backbone').Dinov2Backbone(config)
    # Without part in any loss it would wait for a gradient in distributed training.
    encoder.embeddings.mask_token.requires_grad_(False)
    return encoder
