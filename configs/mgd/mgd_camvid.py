# MGD on CamVid, 1/16 of the images labelled (23 of 367), small networks from random weights that a CPU
# can train:
#   python tools/train.py configs/mgd/mgd_camvid.py
# The other partition: --cfg-options fraction=0.125 --work-dir work_dirs/mgd_camvid_8
_base_ = '../_base_/recipes/mgd.py'

fraction = 0.0625
folder = 'camvid'
