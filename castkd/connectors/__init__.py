"""Connectors: trained maps from student features to a teacher's space. They know torch and live in training only."""

from castkd.connectors.conv import ConvConnector
from castkd.connectors.cross_selective_fusion import CrossSelectiveFusion
from castkd.connectors.global_local_mixer import GlobalLocalMixer
from castkd.connectors.patch_embedding import EmbeddingAssistant, PatchEmbeddingAlignment

__all__ = [
    'ConvConnector',
    'CrossSelectiveFusion',
    'EmbeddingAssistant',
    'GlobalLocalMixer',
    'PatchEmbeddingAlignment',
]
