"""Running trainings: loops, recipes and storage."""

from castkd.engine.loops import ResumableIterLoop

__all__ = ['ResumableIterLoop']
