# The student by GID, on labelled and unlabelled scenes. A quarter of the cars are no more than 12 pixels wide, where
# the paper drops a box at 10; the pyramids have 32 channels.
_base_ = ['./base.py', '../../_base_/methods/gid_unlabeled.py']

model = dict(
    student=_base_.network,
    classes=_base_.classes,
    teachers=dict(
        big=dict(
            model=_base_.big,
            classes=_base_.classes,
            checkpoint='work_dirs/gid_scenes/teacher/iter_300.pth',
        )
    ),
    objectives=dict(
        gid=dict(selection=dict(min_size=4), adapter=dict(in_channels=32, out_channels=32))
    ),
)
