# Quickstart of LAD on generated street scenes, all labelled; a small network from random weights, minutes
# on 2 CPU cores:
#   python tools/make_scenes.py && python tools/train.py configs/quickstart/lad_scenes.py
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, resnet_segmentor

folder = 'lad'
network = resnet_segmentor(19, 'fcn', base_channels=16, channels=32, num_convs=1, dropout=0.01)
twin = label_assisted(network)
