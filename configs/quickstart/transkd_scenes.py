# Quickstart of TransKD on generated street scenes, all labelled; small SegFormers from random weights,
# minutes on 2 CPU cores:
#   python tools/make_scenes.py && python tools/train.py configs/quickstart/transkd_scenes.py
_base_ = '../_base_/recipes/transkd.py'

folder = 'transkd'
