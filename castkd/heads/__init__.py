"""Heads that castkd adds to students and teachers, and what reads theirs."""

from castkd.heads.dpt import DPTPixelDecoder
from castkd.heads.projection import ProjectionHead
from castkd.heads.queries import GridQueries, Queries, SetPredictionQueries

__all__ = ['DPTPixelDecoder', 'GridQueries', 'ProjectionHead', 'Queries', 'SetPredictionQueries']
