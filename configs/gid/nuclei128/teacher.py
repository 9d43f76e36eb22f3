# The teacher on the labelled tiles alone, at twice their size.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']
from castkd.data_configs import instance_data, labeled_only

# Every name that instance_data returns takes the place of the student's.
data = instance_data(
    _base_,
    _base_.dataset,
    **_base_.files,
    augmentation=_base_.double_augmentation,
    test_scale=_base_.double_size,
)
globals().update(data)
val_evaluator = dict(data['val_evaluator'], metric='bbox')
test_evaluator = val_evaluator
train_dataloader = labeled_only(data['labeled_dataset'], 8)
model = dict(student=_base_.big, classes=_base_.classes)
train_cfg = dict(max_iters=1500)
del data
