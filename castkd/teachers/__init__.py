"""Teachers: networks that only give targets."""

from importlib.util import find_spec

from castkd.teachers.base import Teacher, TeacherBank
from castkd.teachers.ema import EMATeacher
from castkd.teachers.frozen import FrozenTeacher

__all__ = ['EMATeacher', 'FrozenTeacher', 'Teacher', 'TeacherBank']

# These extend mmseg's segmentors; detection does without mmseg.
if find_spec('mmseg'):
    from castkd.teachers.label_assisted import (
        LabelAssistedCascadeSegmentor,
        LabelAssistedSegmentor,
        LabelAssistedTeacher,
    )

    __all__ += ['LabelAssistedCascadeSegmentor', 'LabelAssistedSegmentor', 'LabelAssistedTeacher']
