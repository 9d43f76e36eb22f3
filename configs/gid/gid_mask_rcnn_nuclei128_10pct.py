# GID (Dai et al., CVPR 2021) on microscopy nuclei with 10 % of the tiles labelled, on labelled tiles, Mask R-CNN
# from random weights:
#   python tools/train.py configs/gid/gid_mask_rcnn_nuclei128_10pct.py
_base_ = '../_base_/recipes/gid.py'

from castkd.architectures import mask_rcnn

folder = 'nuclei128'
# A tile is 128 x 128 pixels with 8 objects: the anchors are 8 to 128 pixels wide, proposals fewer than usual.
sizes = dict(
    channels=32, fc_channels=128, anchor_size=2, proposals=200, rois_per_image=64, mask_convs=2
)
network = mask_rcnn(1, depth=18, base_channels=8, **sizes)
big = mask_rcnn(1, depth=34, base_channels=32, **sizes)
lr = 2e-3
metric = ['bbox', 'segm']
# The teacher sees the tiles as the student does, as long.
teacher_stage = 'supervised.py'
distill_stage = 'distill_labeled.py'
del sizes
