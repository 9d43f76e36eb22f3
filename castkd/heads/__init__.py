"""Heads that castkd adds to students and teachers, and what reads theirs."""

from castkd.heads.dpt import DPTPixelDecoder
from castkd.heads.projection import ProjectionHead
from castkd.heads.queries import BoxQueries, GridQueries, Queries, SetPredictionQueries
from castkd.heads.regions import (
    RegionHeads,
    of_class,
    pool_regions,
    pooled_levels,
    region_extractor,
    rois_of,
)
from castkd.heads.slots import (
    AnchorSlots,
    FCOSSlots,
    GFLSlots,
    SlotReader,
    Slots,
    check_same_geometry,
    slot_reader,
)
from castkd.heads.solov2 import AreaSOLOV2Head

__all__ = [
    'AnchorSlots',
    'AreaSOLOV2Head',
    'BoxQueries',
    'DPTPixelDecoder',
    'FCOSSlots',
    'GFLSlots',
    'GridQueries',
    'ProjectionHead',
    'Queries',
    'RegionHeads',
    'SetPredictionQueries',
    'SlotReader',
    'Slots',
    'check_same_geometry',
    'of_class',
    'pool_regions',
    'pooled_levels',
    'region_extractor',
    'rois_of',
    'slot_reader',
]
