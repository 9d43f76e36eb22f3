"""Judging predictions: AP of a few images, quality of a single one, precision and recall of pseudo-labels."""

from castkd.evaluation.image_quality import class_map_iou, instance_f1
from castkd.evaluation.instance_ap import instance_ap
from castkd.evaluation.map_overlap import MapOverlap
from castkd.evaluation.matching import Matches, PrecisionRecall, match_instances

__all__ = [
    'MapOverlap',
    'Matches',
    'PrecisionRecall',
    'class_map_iou',
    'instance_ap',
    'instance_f1',
    'match_instances',
]
