# The student by GID on labelled images, as in the paper.
_base_ = ['./base.py', '../../_base_/methods/gid.py']

model = dict(
    student=_base_.network,
    classes=_base_.classes,
    teachers=dict(
        big=dict(
            model=_base_.big,
            classes=_base_.classes,
            checkpoint='work_dirs/gid_retinanet_voc/teacher/iter_18000.pth',
        )
    ),
)
