"""Running trainings: loops, optimisers, recipes and storage."""

from castkd.engine.loops import ResumableIterLoop
from castkd.engine.optim import Bfloat16OptimWrapper, NormDecayConstructor
from castkd.engine.rates import PolyLR

__all__ = ['Bfloat16OptimWrapper', 'NormDecayConstructor', 'PolyLR', 'ResumableIterLoop']
