# COCO by boxes, as the paper trains: the shorter side 800 pixels, half of the images mirrored.
_base_ = [
    './retinanet.py',
    '../../_base_/datasets/coco_instance.py',
    '../../_base_/schedules/sgd_detector.py',
    '../../_base_/runtime/default.py',
]
from castkd.data_configs import instance_data

big_teacher = dict(
    model=_base_.big,
    classes=_base_.classes,
    checkpoint='work_dirs/gid_retinanet_coco/teacher/iter_90000.pth',
)
resize = dict(type='castkd.Resize', scale=_base_.test_scale, keep_ratio=True)
globals().update(
    instance_data(
        _base_,
        _base_.dataset,
        **_base_.files,
        augmentation=[resize, dict(type='mmdet.RandomFlip', prob=0.5)],
        test_scale=_base_.test_scale,
    )
)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    batch_sampler=dict(counts=dict(labeled=8, unlabeled=8)),
)
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(interval=5000))
