# LAD on CamVid, all 367 images labelled: a small network from random weights that a CPU can train:
#   python tools/train.py configs/lad/lad_camvid.py
# Another seed: --cfg-options seed=1 --work-dir work_dirs/lad_camvid_1
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, resnet_segmentor

folder = 'camvid'
# That of camvid/base.py, with the class weights of the data set's config.
network = resnet_segmentor(
    11,
    'fcn',
    base_channels=16,
    channels=64,
    dropout=0.01,
    class_weight=[5.6, 4.3, 33.6, 3.3, 15.5, 8.7, 31.5, 32.0, 12.8, 38.0, 43.9],
)
twin = label_assisted(network)
