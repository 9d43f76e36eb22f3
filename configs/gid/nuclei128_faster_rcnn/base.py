# Microscopy nuclei with Faster R-CNN, from random weights, small enough to train on a CPU.
_base_ = '../nuclei128/base.py'
from castkd.architectures import faster_rcnn

# A tile is 128 x 128 pixels: the anchors are 8 to 128 pixels wide.
sizes_of_head = dict(channels=32, fc_channels=128, anchor_size=2)
student = dict(faster_rcnn(1, depth=18, base_channels=16, **sizes_of_head), _delete_=True)
teacher = dict(faster_rcnn(1, depth=34, base_channels=32, **sizes_of_head), _delete_=True)
big = dict(
    model=teacher,
    checkpoint='work_dirs/gid_faster_rcnn_nuclei128_10pct/teacher/iter_2000.pth',
    input_scale=1.0,
)
