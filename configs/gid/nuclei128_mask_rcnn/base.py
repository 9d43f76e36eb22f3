# Microscopy nuclei with Mask R-CNN, from random weights, small enough to train on a CPU.
_base_ = '../nuclei128/base.py'
from castkd.architectures import mask_rcnn

# A tile is 128 x 128 pixels: the anchors are 8 to 128 pixels wide.
sizes_of_head = dict(channels=32, fc_channels=128, anchor_size=2, mask_convs=2)
student = dict(mask_rcnn(1, depth=18, base_channels=16, **sizes_of_head), _delete_=True)
teacher = dict(mask_rcnn(1, depth=34, base_channels=32, **sizes_of_head), _delete_=True)
big = dict(
    model=teacher,
    checkpoint='work_dirs/gid_mask_rcnn_nuclei128_10pct/teacher/iter_2000.pth',
    input_scale=1.0,
)

val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
