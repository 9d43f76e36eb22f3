"""Heads that castkd adds to students and teachers."""

from castkd.heads.projection import ProjectionHead

__all__ = ['ProjectionHead']
