# The student by GID on labelled images, as in the paper.
_base_ = ['./base.py', '../../_base_/methods/gid.py']
from castkd.data_configs import labeled_only

model = dict(
    student=_base_.network,
    classes=_base_.classes,
    teachers=dict(
        big=dict(
            model=_base_.big,
            classes=_base_.classes,
            checkpoint='work_dirs/gid_retinanet_coco/teacher/iter_90000.pth',
        )
    ),
)
train_dataloader = labeled_only(_base_.labeled_dataset, 16)
