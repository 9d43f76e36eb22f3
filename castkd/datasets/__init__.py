"""Labelled and unlabelled images: splits, sources, samplers, loading and transforms."""

from castkd.datasets import transforms
from castkd.datasets.index_maps import LoadSemanticAnnotations
from castkd.datasets.loading import LoadImage
from castkd.datasets.pseudo_maps import PseudoMapDataset
from castkd.datasets.samplers import RatioBatchSampler
from castkd.datasets.source import Draw, ImageFolder, SourceDataset
from castkd.datasets.splits import (
    Split,
    check_disjoint,
    draw_split,
    read_split,
    split_from_list,
    write_split,
)
from castkd.datasets.voc import VOCYears

__all__ = [
    'Draw',
    'ImageFolder',
    'LoadImage',
    'LoadSemanticAnnotations',
    'PseudoMapDataset',
    'RatioBatchSampler',
    'SourceDataset',
    'Split',
    'VOCYears',
    'check_disjoint',
    'draw_split',
    'read_split',
    'split_from_list',
    'transforms',
    'write_split',
]
