# The student on labels and, on the images that MGD compares, on the soft logits of the deeper teacher.
_base_ = ['./base.py', '../../_base_/methods/distillation/kd.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        big=dict(
            type='castkd.FrozenTeacher',
            model=_base_.deeper,
            checkpoint='work_dirs/mgd_camvid/deeper/iter_1200.pth',
        )
    ),
    views=dict(unsup_mixed=dict(type='castkd.CutMix', source='unsup_teacher')),
    objectives=dict(kd=dict(views=['sup', 'unsup_mixed'])),
)
