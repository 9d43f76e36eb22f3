"""Running trainings: loops, optimisers, recipes and storage."""

from castkd.engine.loops import ResumableIterLoop
from castkd.engine.optim import NormDecayConstructor

__all__ = ['NormDecayConstructor', 'ResumableIterLoop']
