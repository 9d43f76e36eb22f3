# Quickstart of GID on generated street scenes, 1/8 labelled: boxes, and what two small RetinaNets disagree about
# on labelled and unlabelled scenes; from random weights, minutes on 2 CPU cores:
#   python tools/make_scenes.py && python tools/train.py configs/quickstart/gid_scenes.py
_base_ = ['../_base_/recipes/gid.py', 'gid/retinanet.py']

folder = 'gid'
fraction = 0.125
lr = 2e-3
