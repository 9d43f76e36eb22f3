"""Teachers: networks that only give targets."""

from castkd.teachers.base import Teacher, TeacherBank
from castkd.teachers.ema import EMATeacher
from castkd.teachers.frozen import FrozenTeacher

__all__ = ['EMATeacher', 'FrozenTeacher', 'Teacher', 'TeacherBank']
