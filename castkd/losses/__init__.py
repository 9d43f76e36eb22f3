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
from castkd.losses.gid import (
    InstanceFeatureLoss,
    RelationLoss,
    class_divergence,
    delta_response,
    instance_feature_loss,
    mask_response,
    relation_loss,
    soft_class_response,
)
from castkd.losses.gid_selection import (
    GeneralInstances,
    candidate_slots,
    general_instances,
    select_general_instances,
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
    'GeneralInstances',
    'HierarchicalContextLoss',
    'HintLoss',
    'ImageSemanticLoss',
    'InstanceFeatureLoss',
    'InstancePixelContrast',
    'IntraClassVariation',
    'LogitDistillation',
    'OHEMCrossEntropy',
    'PairwiseSimilarity',
    'PatchEmbeddingLoss',
    'PixelSimilarity',
    'RegionContentLoss',
    'RelationLoss',
    'attention_transfer',
    'candidate_slots',
    'category_similarity',
    'channel_wise_distillation',
    'class_divergence',
    'correlation_distillation',
    'cross_image_relation',
    'debias_weights',
    'delta_response',
    'dual_path_consistency',
    'general_instances',
    'hierarchical_context_loss',
    'hint_loss',
    'image_semantic_loss',
    'instance_feature_loss',
    'instance_pixel_contrast',
    'intra_class_variation',
    'logit_distillation',
    'mask_response',
    'ohem_cross_entropy',
    'pairwise_similarity',
    'patch_embedding_loss',
    'pixel_cross_entropy',
    'pixel_similarity',
    'region_content_loss',
    'relation_loss',
    'select_general_instances',
    'soft_class_response',
]
