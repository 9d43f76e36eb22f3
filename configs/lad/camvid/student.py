# LAD stage 2: the student on labels and on the logits of the teacher that reads them.
_base_ = ['./base.py', '../../_base_/methods/lad_student.py']

model = dict(
    student=_base_.network,
    teachers=dict(
        twin=dict(
            model=_base_.twin,
            checkpoint='work_dirs/lad_camvid/teacher/iter_1000.pth',
        )
    ),
    classes=_base_.classes,
)
