# The student by GID on labelled tiles. Half of the nuclei are no more than 10 pixels wide, where the paper drops a box;
# the pyramids have 32 channels.
_base_ = ['./base.py', '../../_base_/methods/gid.py']
from castkd.data_configs import labeled_only

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        big=dict(
            model=_base_.teacher,
            classes=_base_.classes,
            checkpoint='work_dirs/gid_faster_rcnn_nuclei128_10pct/teacher/iter_1200.pth',
        )
    ),
    objectives=dict(
        gid=dict(selection=dict(min_size=4), adapter=dict(in_channels=32, out_channels=32))
    ),
)
train_dataloader = labeled_only(_base_.labeled_dataset, 8)
