"""Hooks around a training: what is checked before it, watched in it and stored beside it."""

from castkd.hooks.first_weights import FirstWeights
from castkd.hooks.nonfinite import StopOnNonFinite
from castkd.hooks.pictures import Pictures
from castkd.hooks.preflight import TeacherPreflight
from castkd.hooks.provenance import Provenance
from castkd.hooks.pseudo_statistics import PseudoLabelStatistics
from castkd.hooks.stage_metrics import StageMetrics
from castkd.hooks.watchdog import Watchdog

__all__ = [
    'FirstWeights',
    'Pictures',
    'Provenance',
    'PseudoLabelStatistics',
    'StageMetrics',
    'StopOnNonFinite',
    'TeacherPreflight',
    'Watchdog',
]
