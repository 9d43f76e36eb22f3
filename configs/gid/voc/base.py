# Pascal VOC 2007 and 2012, all labelled. The paper does not give its schedule: this is the usual one of detectors on
# these 16 551 images, 18 000 steps of 16 images (17 passes), the rate a tenth after 12 000 and again after 16 000.
_base_ = [
    './retinanet.py',
    '../../_base_/datasets/voc0712_detection.py',
    '../../_base_/schedules/sgd_detector.py',
    '../../_base_/runtime/default.py',
]
from castkd.data_configs import labeled_only

big_teacher = dict(
    model=_base_.big,
    classes=_base_.classes,
    checkpoint='work_dirs/gid_retinanet_voc/teacher/iter_18000.pth',
)
train_dataloader = dict(labeled_only(_base_.labeled_dataset, 16, split=False), num_workers=4)
param_scheduler = [
    dict(_base_.param_scheduler[0], end=100),
    dict(_base_.param_scheduler[1], milestones=[12_000, 16_000]),
]
train_cfg = dict(max_iters=18_000, val_interval=6_000)
default_hooks = dict(checkpoint=dict(interval=2_000))
