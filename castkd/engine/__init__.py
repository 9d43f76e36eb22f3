"""Running trainings: loops, optimisers, recipes and storage."""

from castkd.engine.loops import ResumableIterLoop
from castkd.engine.optim import NormDecayConstructor
from castkd.engine.rates import PolyLR

__all__ = ['NormDecayConstructor', 'PolyLR', 'ResumableIterLoop']
