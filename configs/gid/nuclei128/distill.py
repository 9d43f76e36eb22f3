# The student by GID, on labelled and unlabelled tiles. Half of the nuclei are no more than 10 pixels wide, where the
# paper drops a box; the pyramids have 32 channels.
_base_ = ['./base.py', '../../_base_/methods/gid_unlabeled.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        big=dict(
            model=_base_.teacher,
            classes=_base_.classes,
            checkpoint='work_dirs/gid_nuclei128_10pct/teacher/iter_2400.pth',
        )
    ),
    objectives=dict(
        gid=dict(selection=dict(min_size=4), adapter=dict(in_channels=32, out_channels=32))
    ),
)
