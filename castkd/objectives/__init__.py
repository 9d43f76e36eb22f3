"""Objectives: each is one method's part of a training step."""

from castkd.objectives.base import Objective
from castkd.objectives.cast import InstanceContrast
from castkd.objectives.cps import CrossPseudoSupervision
from castkd.objectives.distillation import Distillation
from castkd.objectives.gid import GeneralInstanceDistillation
from castkd.objectives.lad import DualPath
from castkd.objectives.mgd import MultiGranularity
from castkd.objectives.pseudo_label import PseudoLabel
from castkd.objectives.supervised import Supervised
from castkd.objectives.transkd import TransKD

__all__ = [
    'CrossPseudoSupervision',
    'Distillation',
    'DualPath',
    'GeneralInstanceDistillation',
    'InstanceContrast',
    'MultiGranularity',
    'Objective',
    'PseudoLabel',
    'Supervised',
    'TransKD',
]
