# LAD on CamVid, all 367 images labelled: a small network from random weights that a CPU can train:
#   python tools/train.py configs/lad/lad_camvid.py
# Another seed: --cfg-options seed=1 --work-dir work_dirs/lad_camvid_1
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, resnet_segmentor

folder = 'camvid'
network = resnet_segmentor(11, 'fcn', base_channels=16, channels=64, dropout=0.01)
twin = label_assisted(network)
