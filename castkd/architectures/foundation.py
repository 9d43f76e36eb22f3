"""Builder of CAST's teacher: an open-vocabulary detector and SAM 2 behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from castkd.architectures.parts import detector_preprocessor

#: Tap of the image feature that CAST contrasts in this teacher: the last map of the detector's image backbone.
FOUNDATION_FEATURE = 'detector.network.model.backbone[0][-1][0]'
#: Its layers that take most memory in training: paths for ``activation_checkpointing`` of the distiller.
FOUNDATION_LAYERS = (
    'detector.network.model.backbone.conv_encoder.model.*.layers.*.blocks.*',
    'detector.network.model.encoder.layers.*',
)
#: The tap where the detector is mmdet's.
MMDET_FOUNDATION_FEATURE = 'detector.network.backbone[-1]'


def foundation_segmentor(
    classes: Sequence[str],
    *,
    detector: str | Mapping[str, Any] = 'openmmlab-community/mm_grounding_dino_large_all',
    segmenter: str = 'facebook/sam2.1-hiera-large',
    synonyms: Mapping[str, Sequence[str]] | None = None,
    score_thr: float = 0.05,
    max_per_image: int = 100,
    test_scale: tuple[int, int] | None = (800, 1333),
    ranking: str = 'product',
    amp: str | None = None,
) -> dict:
    """Return the teacher of CAST (arXiv 2505.21904): a detector of named things and a segmenter, 568 M parameters.

    Args:
        classes: Class names in the order of the labels.
        detector: Grounding DINO or MM-Grounding-DINO: hub name or folder, see
            :class:`~castkd.teachers.grounding_dino.GroundingDINO`. Or type and first weights of another detector:
            ``dict(type='castkd.MMDetGroundingDINO', config=..., weights=...)``.
        segmenter: SAM 2: hub name or folder, see :class:`~castkd.teachers.sam2.SAM2`.
        synonyms: Per class name the phrases that stand for it, where that is not the name itself.
        score_thr: Boxes need a score above it. Low, so that average precision sees the whole ranking; pseudo-labels
            have a threshold of their own.
        max_per_image: Boxes of an image, at most.
        test_scale: (short, long) side that images are resized within for the detector's predictions. The segmenter
            sees them as they are, so let the pipeline keep their size.
        ranking: What ranks masks, see :class:`~castkd.teachers.foundation.FoundationSegmentor`, like ``amp``.
        amp: Precision of predictions.

    Returns:
        Config of the network; the transformers library reads the parts' configs where their weights are.
    """
    if isinstance(detector, str):
        detector = {'type': 'castkd.GroundingDINO', 'weights': detector}
    return {
        '_scope_': 'mmdet',
        'type': 'castkd.FoundationSegmentor',
        # Both parts know padding, and bring images to their own sizes.
        'data_preprocessor': {**detector_preprocessor(masks=True), 'pad_size_divisor': 1},
        'detector': {
            **detector,
            'classes': tuple(classes),
            'synonyms': synonyms,
            'score_thr': score_thr,
            'max_per_image': max_per_image,
            'test_scale': test_scale,
        },
        'segmenter': {'type': 'castkd.SAM2', 'weights': segmenter},
        'ranking': ranking,
        'amp': amp,
    }
