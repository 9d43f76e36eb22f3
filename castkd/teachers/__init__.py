"""Teachers: networks that only give targets."""

from importlib.util import find_spec

from castkd.teachers.base import Teacher, TeacherBank
from castkd.teachers.ema import EMATeacher
from castkd.teachers.foundation import FoundationSegmentor, FoundationTeacher
from castkd.teachers.frozen import FrozenTeacher
from castkd.teachers.grounding_dino import GroundingDINO
from castkd.teachers.merged import MergedTeacher
from castkd.teachers.mmdet_grounding_dino import MMDetGroundingDINO
from castkd.teachers.sam2 import SAM2

__all__ = [
    'EMATeacher',
    'FoundationSegmentor',
    'FoundationTeacher',
    'FrozenTeacher',
    'GroundingDINO',
    'MMDetGroundingDINO',
    'MergedTeacher',
    'SAM2',
    'Teacher',
    'TeacherBank',
]

# These extend mmseg's segmentors; detection does without mmseg.
if find_spec('mmseg'):
    from castkd.teachers.label_assisted import (
        LabelAssistedCascadeSegmentor,
        LabelAssistedSegmentor,
        LabelAssistedTeacher,
    )

    __all__ += ['LabelAssistedCascadeSegmentor', 'LabelAssistedSegmentor', 'LabelAssistedTeacher']
