# GID (Dai et al., CVPR 2021) on microscopy nuclei with 10 % of the tiles labelled, on labelled tiles, Faster R-CNN
# from random weights:
#   python tools/train.py configs/gid/gid_faster_rcnn_nuclei128_10pct.py
_base_ = '../_base_/recipes/gid.py'

folder = 'nuclei128_faster_rcnn'
