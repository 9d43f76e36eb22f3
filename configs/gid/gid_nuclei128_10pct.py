# GID (Dai et al., CVPR 2021) on microscopy nuclei with 10 % of the tiles labelled, on labelled and
# unlabelled tiles, RetinaNets from random weights:
#   python tools/train.py configs/gid/gid_nuclei128_10pct.py
# Labelled fraction and seed are variables:
#   --cfg-options seed=1 fraction=0.02 --work-dir work_dirs/other
_base_ = ['../_base_/recipes/gid.py', 'nuclei128/retinanet.py']

folder = 'nuclei128'
lr = 2e-3
input_scale = 2.0
