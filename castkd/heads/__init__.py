"""Heads that castkd adds to students and teachers, and what reads theirs."""

from castkd.heads.projection import ProjectionHead
from castkd.heads.queries import GridQueries, Queries, SetPredictionQueries

__all__ = ['GridQueries', 'ProjectionHead', 'Queries', 'SetPredictionQueries']
