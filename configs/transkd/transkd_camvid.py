# TransKD on CamVid, small SegFormers from random weights that a CPU can train:
#   python tools/train.py configs/transkd/transkd_camvid.py
# Another seed: --cfg-options seed=1 --work-dir work_dirs/transkd_camvid_1
_base_ = '../_base_/recipes/transkd.py'

folder = 'camvid'
