"""TransKD: distil feature maps and patch embeddings of a hierarchical transformer.

Liu et al., "TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation" (arXiv 2202.13393).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.losses import HierarchicalContextLoss, PatchEmbeddingLoss
from castkd.objectives.base import Objective
from castkd.registry import MODELS, build_model
from castkd.structures import STUDENT, Pass, Step, source_view

Tokens = tuple[Tensor, tuple[int, int]]

# Of mmseg's MixVisionTransformer and of mmdet's PyramidVisionTransformerV2: the stage outputs behind their norm, and
# the patch embeddings behind theirs, which come as tokens and their grid.
FEATURES = tuple(f'backbone[{stage}]' for stage in range(4))
EMBEDDINGS = tuple(f'backbone.layers.{stage}.0' for stage in range(4))


@MODELS.register_module()
class TransKD(Objective):
    """Align a student's stages with those of a larger transformer of the same form.

    Feature maps go through ``fusion`` to a hierarchical context loss, patch embeddings through ``alignment`` to a mean
    squared error. Base is both; GL mixes the deepest stage's embeddings before they are aligned; EA adds embeddings
    made from what the student's stages read. All of it is beside the student's own run, which stays as it is. No labels
    are needed: unlabelled images are one more view.

    A teacher on another grid than the student (other strides, larger images) is averaged onto the student's by
    adaptive average pooling. A term of weight 0 is not computed, and parts that only it needs are not built.

    Args:
        teacher: Name of the teacher.
        student_channels: Width of the student per stage, shallow to deep.
        teacher_channels: Width of the teacher per stage.
        fusion: Config of what brings feature maps to the teacher's widths, such as ``castkd.CrossSelectiveFusion``;
            None leaves feature maps out. All parts are built with the channels given here.
        alignment: The same for patch embeddings, such as ``castkd.PatchEmbeddingAlignment``.
        mixer: Config of what changes the deepest stage's embeddings first (GL), such as ``castkd.GlobalLocalMixer``.
        assistant: Config of what adds to the aligned embeddings (EA), such as ``castkd.EmbeddingAssistant``.
        views: Views that are compared; the loss is the mean over all their images.
        feature_weight: lambda_F, factor of the context loss, at least 0.
        embedding_weights: e, factor of the embedding loss per stage, at least 0.
        feature_taps: Taps of the student's maps (B, C, h, w) per stage.
        embedding_taps: Modules whose output is (tokens (B, h w, C), (h, w)) per stage; ``assistant`` reads their input.
        teacher_feature_taps: The same in the teacher; None for those of the student.
        teacher_embedding_taps: The same in the teacher; None for those of the student.
        weight: See :class:`~castkd.objectives.base.Objective`.

    Raises:
        ConfigError: When there is nothing to compare, or a number per stage is missing.
    """

    def __init__(
        self,
        teacher: str,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        fusion: dict | nn.Module | None = None,
        alignment: dict | nn.Module | None = None,
        mixer: dict | nn.Module | None = None,
        assistant: dict | nn.Module | None = None,
        views: Sequence[str] = ('sup',),
        feature_weight: float = 1.0,
        embedding_weights: Sequence[float] = (0.1, 0.1, 0.5, 1.0),
        feature_taps: Sequence[str] = FEATURES,
        embedding_taps: Sequence[str] = EMBEDDINGS,
        teacher_feature_taps: Sequence[str] | None = None,
        teacher_embedding_taps: Sequence[str] | None = None,
        weight: float | dict = 1.0,
    ) -> None:
        super().__init__(weight)
        if not feature_weight:
            fusion = None
        if not any(embedding_weights):
            alignment = mixer = assistant = None
        _check_parts(fusion, alignment, mixer, assistant)
        channels = {'student_channels': student_channels, 'teacher_channels': teacher_channels}
        self.teacher = teacher
        self.views = tuple(views)
        self.fusion = fusion and build_model(fusion, **channels)
        self.alignment = alignment and build_model(alignment, **channels)
        self.mixer = mixer and build_model(mixer, channels=student_channels[-1])
        self.assistant = assistant and build_model(assistant, **channels)
        self.feature_loss = HierarchicalContextLoss()
        self.embedding_loss = PatchEmbeddingLoss()
        self.feature_weight = feature_weight
        self.embedding_weights = tuple(embedding_weights)
        self.feature_taps = tuple(feature_taps)
        self.embedding_taps = tuple(embedding_taps)
        self.teacher_feature_taps = tuple(teacher_feature_taps or feature_taps)
        self.teacher_embedding_taps = tuple(teacher_embedding_taps or embedding_taps)
        self._check_stages(len(student_channels))

    def passes(self) -> list[Pass]:
        """Return encoder runs of both networks on all views."""
        student, teacher = [], []
        if self.fusion:
            student += self.feature_taps
            teacher += self.teacher_feature_taps
        if self.alignment:
            student += self.embedding_taps
            teacher += self.teacher_embedding_taps
        if self.assistant:
            student += map(_input_of, self.embedding_taps)
        return [
            request
            for view in self.views
            for request in (
                Pass(self.teacher, view, 'encode', tuple(teacher), grad=False),
                Pass(STUDENT, view, 'encode', tuple(student)),
            )
        ]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_hcl_s<stage>`` and ``loss_pea_s<stage>``, weighted; trained scalars go to the statistics."""
        total: dict[str, Tensor] = {}
        images = 0
        for view in self.views:
            student, teacher = step[STUDENT, view].taps, step[self.teacher, view].taps
            count = len(step.samples[source_view(view)])
            for name, value in (
                *self._features(student, teacher).items(),
                *self._embeddings(student, teacher).items(),
            ):
                total[name] = total.get(name, 0.0) + count * value
            images += count
        for part in (self.mixer, self.assistant):
            if part:
                step.statistics.update(
                    {f'transkd.{name}': value for name, value in part.statistics().items()}
                )
        return {name: value / images for name, value in total.items()}

    def _features(self, student: dict, teacher: dict) -> dict[str, Tensor]:
        if not self.fusion:
            return {}
        losses = {}
        fused = self.fusion([student[tap] for tap in self.feature_taps])
        for stage, (ours, tap) in enumerate(zip(fused, self.teacher_feature_taps, strict=True)):
            theirs = _on_grid(teacher[tap], ours.shape[2:])
            value = self.feature_loss(ours, theirs)
            losses[f'loss_hcl_s{stage + 1}'] = self.feature_weight * value
        return losses

    def _embeddings(self, student: dict, teacher: dict) -> dict[str, Tensor]:
        if not self.alignment:
            return {}
        own = [_tokens(student, tap) for tap in self.embedding_taps]
        tokens = [value for value, _ in own]
        if self.mixer:
            tokens[-1] = self.mixer(tokens[-1])
        aligned = self.alignment(tokens)
        if self.assistant:
            inputs = [student[_input_of(tap)] for tap in self.embedding_taps]
            aligned = self.assistant(aligned, inputs)
        losses, idle = {}, 0.0
        for stage, (tap, weight) in enumerate(
            zip(self.teacher_embedding_taps, self.embedding_weights, strict=True)
        ):
            if not weight:
                # The parts of the stage stay in the graph, as distributed training asks.
                idle = idle + 0.0 * aligned[stage].sum()
                continue
            theirs = _tokens_on_grid(_tokens(teacher, tap), own[stage][1])
            losses[f'loss_pea_s{stage + 1}'] = weight * self.embedding_loss(aligned[stage], theirs)
        name = next(iter(losses))
        return {**losses, name: losses[name] + idle}

    def _check_stages(self, stages: int) -> None:
        for name in (
            'embedding_weights',
            'feature_taps',
            'embedding_taps',
            'teacher_feature_taps',
            'teacher_embedding_taps',
        ):
            found = len(getattr(self, name))
            if found != stages:
                raise ConfigError(
                    f'TransKD: {name} must name one value for each of the {stages} stages of student_channels, got '
                    f'{found}'
                )
        check_number('TransKD', 'feature_weight', self.feature_weight, low=0)
        for stage, value in enumerate(self.embedding_weights):
            check_number('TransKD', f'embedding_weights[{stage}]', value, low=0)


def _check_parts(
    fusion: object | None, alignment: object | None, mixer: object | None, assistant: object | None
) -> None:
    if not fusion and not alignment:
        raise ConfigError(
            'TransKD: nothing is compared; set fusion (feature maps), alignment (patch embeddings) or both, with '
            'weights above 0'
        )
    for name, part in (('mixer', mixer), ('assistant', assistant)):
        if part and not alignment:
            raise ConfigError(f'TransKD: {name} works on patch embeddings; set alignment too')


def _input_of(tap: str) -> str:
    return f'{tap}:input'


def _tokens(taps: dict, tap: str) -> Tokens:
    """Return the tokens (B, h w, C) of a tap and their grid (h, w)."""
    value = taps[tap]
    if not (isinstance(value, tuple) and len(value) == 2 and len(value[1]) == 2):
        raise ConfigError(
            f'TransKD: tap {tap!r} must give (tokens, (h, w)) as the patch embeddings of mmseg and mmdet do, got '
            f'{type(value).__name__}'
        )
    return value[0], tuple(value[1])


def _on_grid(feature: Tensor, grid: Sequence[int]) -> Tensor:
    if feature.shape[2:] == tuple(grid):
        return feature
    return F.adaptive_avg_pool2d(feature, tuple(grid))


def _tokens_on_grid(tokens: Tokens, grid: tuple[int, int]) -> Tensor:
    values, own_grid = tokens
    if own_grid == grid:
        return values
    return _on_grid(values.transpose(1, 2).unflatten(2, own_grid), grid).flatten(2).transpose(1, 2)
