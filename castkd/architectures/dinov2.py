"""Builder of CAST's student: DINOv2, a dense-prediction-transformer decoder and Mask2Former's queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from castkd.architectures.instance import mask2former
from castkd.architectures.parts import pretrained_init

_PATCH = 14


def dinov2_mask2former(
    num_classes: int,
    *,
    encoder: str | Mapping[str, Any] = 'small',
    widths: Sequence[int] = (96, 192, 384, 768),
    channels: int = 256,
    num_queries: int = 100,
    decoder_layers: int = 7,
    ffn_channels: int = 2048,
    num_points: int = 12544,
    norm: str = 'GN',
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet Mask2Former on DINOv2, the student of CAST (arXiv 2505.21904).

    With 8 classes the default has 51.6 M parameters, the paper's 52 M; its code was committed with
    ``channels=384, decoder_layers=9``. CAST contrasts the backbone's last map, ``backbone[3]``.

    Args:
        num_classes: Number of thing classes.
        encoder: See :class:`~castkd.backbones.dinov2.DINOv2Backbone`.
        widths: Width of the backbone's four maps, fine to coarse.
        channels: Width of pixel decoder and transformer decoder; a multiple of 8.
        num_queries: Number of queries.
        decoder_layers: Layers of the masked-attention decoder.
        ffn_channels: Width of its feed-forward layers.
        num_points: Points per mask in cost and loss.
        norm: Norm of the pixel decoder, see :class:`~castkd.heads.dpt.DPTPixelDecoder`; the paper's is ``BN``.
        pretrained: First weights of the encoder, a hub name or a folder; None starts from random weights.

    Returns:
        Config with ``_scope_='mmdet'``; plain mmdet but for backbone and pixel decoder. Batches are padded to multiples
        of 14 pixels.
    """
    model = mask2former(
        num_classes,
        channels=channels,
        num_queries=num_queries,
        decoder_layers=decoder_layers,
        ffn_channels=ffn_channels,
        num_points=num_points,
    )
    model['data_preprocessor']['pad_size_divisor'] = _PATCH
    model['backbone'] = {
        'type': 'castkd.DINOv2Backbone',
        'encoder': encoder,
        'channels': tuple(widths),
        'init_cfg': pretrained_init(pretrained),
    }
    head = model['panoptic_head']
    head['in_channels'] = list(widths)
    # Nominal, as in the paper's code: the real ones are 3.5, 7, 14 and 28. Nothing computes with them.
    head['strides'] = [4, 8, 16, 32]
    head['pixel_decoder'] = {
        'type': 'castkd.DPTPixelDecoder',
        'norm': norm,
        # Where mmdet's head looks for the number of maps.
        'encoder': {'layer_cfg': {'self_attn_cfg': {'num_levels': 3}}},
    }
    return model
