# TransKD on Cityscapes, PVTv2-B2 to B0 with a semantic feature pyramid, the protocol of the published code:
# 512 x 1024, mIoU at a quarter of that; one GPU, 371 000 iterations of 8 images a stage:
#   python tools/train.py configs/transkd/transkd_pvt_cityscapes_paper.py
# The published code has Base for this pair; its numbers could not be read.
_base_ = '../_base_/recipes/transkd.py'

folder = 'cityscapes_pvt_paper'
