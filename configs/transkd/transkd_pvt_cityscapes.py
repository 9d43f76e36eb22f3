# TransKD on Cityscapes, PVTv2-B2 to B0 with a semantic feature pyramid; 8 GPUs, 160 000 iterations a
# stage:
#   torchrun --nproc-per-node 8 tools/train.py configs/transkd/transkd_pvt_cityscapes.py --launcher pytorch
_base_ = '../_base_/recipes/transkd.py'

folder = 'cityscapes_pvt'
