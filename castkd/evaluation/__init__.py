"""Judging predictions: AP of a few images, precision and recall of pseudo-labels."""

from castkd.evaluation.instance_ap import instance_ap
from castkd.evaluation.matching import Matches, PrecisionRecall, match_instances

__all__ = ['Matches', 'PrecisionRecall', 'instance_ap', 'match_instances']
