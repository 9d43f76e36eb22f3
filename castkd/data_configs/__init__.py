"""Builders of the data part of configs: pipelines, data sets, loaders, evaluators."""

from castkd.data_configs.instance import detector_geometry, instance_crop, instance_data
from castkd.data_configs.semantic import map_crop, semantic_data
from castkd.data_configs.shared import (
    color_jitter,
    data_parts,
    file_size_jitter,
    labeled_only,
    random_geometry,
    scale_jitter,
    short_side_jitter,
    with_photometric,
)

__all__ = [
    'color_jitter',
    'data_parts',
    'detector_geometry',
    'file_size_jitter',
    'instance_crop',
    'instance_data',
    'labeled_only',
    'map_crop',
    'random_geometry',
    'scale_jitter',
    'semantic_data',
    'short_side_jitter',
    'with_photometric',
]
