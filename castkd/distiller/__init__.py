"""The distiller: one training step of a student with its teachers and objectives."""

from castkd.distiller.distiller import Distiller
from castkd.distiller.preprocessor import MultiViewPreprocessor
from castkd.distiller.pseudo_labeler import InstancePseudoLabeler, QueryPseudoLabeler
from castkd.distiller.semantic_labeler import SemanticPseudoLabeler

__all__ = [
    'Distiller',
    'InstancePseudoLabeler',
    'MultiViewPreprocessor',
    'QueryPseudoLabeler',
    'SemanticPseudoLabeler',
]
