# Quickstart of MGD on generated street scenes, 1/8 labelled; small networks from random weights, minutes on
# 2 CPU cores:
#   python tools/make_scenes.py && python tools/train.py configs/quickstart/mgd_scenes.py
_base_ = '../_base_/recipes/mgd.py'

folder = 'mgd'
