"""Maps from a student's patch embeddings to the teacher's width."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.connectors.pyramid import check_maps, check_tokens, check_widths
from castkd.errors import ConfigError
from castkd.registry import MODELS


@MODELS.register_module()
class PatchEmbeddingAlignment(nn.Module):
    """PEA of TransKD: one linear map with bias per stage, token by token.

    Shape:
        Input: tokens (B, N_i, student_channels[i]) per stage; output: list of (B, N_i, teacher_channels[i]).

    Args:
        student_channels: Width of the student's tokens per stage.
        teacher_channels: Width of the teacher's tokens per stage.

    Raises:
        ConfigError: When an option or a shape is wrong.

    Example:
        >>> align = PatchEmbeddingAlignment((4, 8), (8, 16))
        >>> [tuple(o.shape) for o in align([torch.rand(2, 64, 4), torch.rand(2, 16, 8)])]
        [(2, 64, 8), (2, 16, 16)]

    Reference:
        TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation, arXiv 2202.13393.
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int]) -> None:
        """Build the linear maps."""
        super().__init__()
        check_widths('PatchEmbeddingAlignment', student_channels, teacher_channels)
        self.student_channels = tuple(student_channels)
        self.layers = nn.ModuleList(
            nn.Linear(own, wanted)
            for own, wanted in zip(student_channels, teacher_channels, strict=True)
        )

    def forward(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Return the tokens in the teacher's widths."""
        check_tokens('PatchEmbeddingAlignment', tokens, self.student_channels)
        return [layer(value) for layer, value in zip(self.layers, tokens, strict=True)]


@MODELS.register_module()
class EmbeddingAssistant(nn.Module):
    r"""EA of TransKD: patch embeddings of the teacher's width, made from what the student's stages read.

    Each stage has an overlapped patch embedding of its own (convolution 7 x 7 with stride 4 for the first, 3 x 3 with
    stride 2 for the others, then a LayerNorm) that makes tokens :math:`P_i` from the stage's input: the image, then the
    student's maps. They join the aligned tokens with free scalars: :math:`A_i \leftarrow g_i A_i + h_i P_i`, at the
    start g = 0.1, 0.2, 0.3, ... and h = 0.5, 0.6, 0.7, ...

    Shape:
        Inputs: aligned tokens (B, N_i, teacher_channels[i]) and stage inputs (B, C, h, w) with the image's channels
        first and then ``student_channels[:-1]``, per stage; output: list of (B, N_i, teacher_channels[i]).

    Args:
        student_channels: Width of the student's maps per stage.
        teacher_channels: Width of the teacher's tokens per stage.
        image_channels: Channels of the image, at least 1.

    Raises:
        ConfigError: When an option or a shape is wrong.

    Example:
        >>> assist = EmbeddingAssistant((4, 8), (8, 16))
        >>> aligned = [torch.rand(1, 64, 8), torch.rand(1, 16, 16)]
        >>> inputs = [torch.rand(1, 3, 32, 32), torch.rand(1, 4, 8, 8)]
        >>> [tuple(o.shape) for o in assist(aligned, inputs)]
        [(1, 64, 8), (1, 16, 16)]

    Reference:
        TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation, arXiv 2202.13393.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        image_channels: int = 3,
    ) -> None:
        """Build the patch embeddings and the scalars."""
        super().__init__()
        check_widths('EmbeddingAssistant', student_channels, teacher_channels)
        check_number('EmbeddingAssistant', 'image_channels', image_channels, low=1, integer=True)
        self.in_channels = (image_channels, *student_channels[:-1])
        self.teacher_channels = tuple(teacher_channels)
        geometry = [(7, 4)] + [(3, 2)] * (len(teacher_channels) - 1)
        self.embeddings = nn.ModuleList(
            _OverlappedPatches(own, wanted, *sizes)
            for own, wanted, sizes in zip(self.in_channels, teacher_channels, geometry, strict=True)
        )
        stages = torch.arange(1, len(teacher_channels) + 1)
        self.aligned_scale = nn.Parameter(0.1 * stages)
        self.assistant_scale = nn.Parameter(0.4 + 0.1 * stages)

    def forward(self, aligned: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the fused tokens per stage."""
        check_tokens('EmbeddingAssistant', aligned, self.teacher_channels)
        check_maps('EmbeddingAssistant', inputs, self.in_channels)
        made = [embed(value) for embed, value in zip(self.embeddings, inputs, strict=True)]
        for stage, (ours, theirs) in enumerate(zip(made, aligned, strict=True), start=1):
            if ours.shape != theirs.shape:
                raise ConfigError(
                    f'EmbeddingAssistant: stage {stage} makes tokens {tuple(ours.shape)}, the student has '
                    f'{tuple(theirs.shape)}; it fits overlapped patch embeddings of strides 4, 2, 2, 2 only'
                )
        return [
            self.aligned_scale[stage] * theirs + self.assistant_scale[stage] * ours
            for stage, (ours, theirs) in enumerate(zip(made, aligned, strict=True))
        ]

    def statistics(self) -> dict[str, Tensor]:
        """Return the scalars by name, detached."""
        scales = {'aligned_scale': self.aligned_scale, 'assistant_scale': self.assistant_scale}
        return {
            f'{name}_s{stage}': value
            for name, values in scales.items()
            for stage, value in enumerate(values.detach().unbind(), start=1)
        }


class _OverlappedPatches(nn.Module):
    """Tokens (B, N, out_channels) of overlapping patches of a map (B, in_channels, h, w)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2
        )
        self.norm = nn.LayerNorm(out_channels)
        # As in SegFormer: normal, by the number of outgoing connections.
        nn.init.normal_(
            self.projection.weight, std=math.sqrt(2.0 / (kernel_size**2 * out_channels))
        )
        nn.init.zeros_(self.projection.bias)

    def forward(self, value: Tensor) -> Tensor:
        return self.norm(self.projection(value).flatten(2).transpose(1, 2))
