"""Objectives: each is one method's part of a training step."""

from castkd.objectives.base import Objective
from castkd.objectives.cast import InstanceContrast
from castkd.objectives.distillation import Distillation
from castkd.objectives.pseudo_label import PseudoLabel
from castkd.objectives.supervised import Supervised

__all__ = ['Distillation', 'InstanceContrast', 'Objective', 'PseudoLabel', 'Supervised']
