# The student on labels and on the soft logits of the teacher.
_base_ = ['./base.py', '../../_base_/methods/distillation/kd.py']

model = dict(
    student=_base_.student,
    teachers=dict(
        big=dict(type='castkd.FrozenTeacher', model=_base_.teacher, checkpoint=_base_.teacher_file)
    ),
    classes=_base_.classes,
)
