# LAD stage 2 on labels and pseudo-labels.
_base_ = ['./base_pseudo.py', '../../_base_/methods/lad_student_pseudo.py']

model = dict(
    student=_base_.network,
    teachers=dict(
        twin=dict(
            model=_base_.twin,
            checkpoint='work_dirs/lad_camvid_16/teacher/iter_1000.pth',
        )
    ),
    classes=_base_.classes,
)
