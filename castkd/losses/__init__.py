"""Losses: pure functions and their thin modules. They know torch, not networks, data or stages."""

from castkd.losses.contrastive import InstancePixelContrast, instance_pixel_contrast
from castkd.losses.correlation import (
    CorrelationDistillation,
    correlation_distillation,
)
from castkd.losses.cross_entropy import OHEMCrossEntropy, ohem_cross_entropy, pixel_cross_entropy
from castkd.losses.double_similarity import (
    CategorySimilarity,
    PixelSimilarity,
    category_similarity,
    pixel_similarity,
)
from castkd.losses.features import (
    AttentionTransfer,
    HintLoss,
    attention_transfer,
    hint_loss,
)
from castkd.losses.intra_class import (
    IntraClassVariation,
    intra_class_variation,
)
from castkd.losses.lad import DualPathConsistency, dual_path_consistency
from castkd.losses.mgd import (
    ImageSemanticLoss,
    RegionContentLoss,
    image_semantic_loss,
    region_content_loss,
)
from castkd.losses.sampling import debias_weights
from castkd.losses.similarity import (
    CrossImageRelation,
    PairwiseSimilarity,
    cross_image_relation,
    pairwise_similarity,
)
from castkd.losses.soft_targets import (
    ChannelWiseDistillation,
    LogitDistillation,
    channel_wise_distillation,
    logit_distillation,
)
from castkd.losses.transkd import (
    HierarchicalContextLoss,
    PatchEmbeddingLoss,
    hierarchical_context_loss,
    patch_embedding_loss,
)

__all__ = [
    'AttentionTransfer',
    'CategorySimilarity',
    'ChannelWiseDistillation',
    'CorrelationDistillation',
    'CrossImageRelation',
    'DualPathConsistency',
    'HierarchicalContextLoss',
    'HintLoss',
    'ImageSemanticLoss',
    'InstancePixelContrast',
    'IntraClassVariation',
    'LogitDistillation',
    'OHEMCrossEntropy',
    'PairwiseSimilarity',
    'PatchEmbeddingLoss',
    'PixelSimilarity',
    'RegionContentLoss',
    'attention_transfer',
    'category_similarity',
    'channel_wise_distillation',
    'correlation_distillation',
    'cross_image_relation',
    'debias_weights',
    'dual_path_consistency',
    'hierarchical_context_loss',
    'hint_loss',
    'image_semantic_loss',
    'instance_pixel_contrast',
    'intra_class_variation',
    'logit_distillation',
    'ohem_cross_entropy',
    'pairwise_similarity',
    'patch_embedding_loss',
    'pixel_cross_entropy',
    'pixel_similarity',
    'region_content_loss',
]
