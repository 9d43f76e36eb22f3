"""The distiller: one training step of a student with its teachers and objectives."""

from castkd.distiller.cutmix import CutMix, cutmix_masks
from castkd.distiller.distiller import Distiller
from castkd.distiller.preprocessor import MultiViewPreprocessor
from castkd.distiller.pseudo_labeler import InstancePseudoLabeler, QueryPseudoLabeler
from castkd.distiller.semantic_labeler import SemanticPseudoLabeler
from castkd.distiller.views import DerivedView

__all__ = [
    'CutMix',
    'DerivedView',
    'Distiller',
    'InstancePseudoLabeler',
    'MultiViewPreprocessor',
    'QueryPseudoLabeler',
    'SemanticPseudoLabeler',
    'cutmix_masks',
]
