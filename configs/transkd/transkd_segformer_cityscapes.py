# TransKD on Cityscapes, SegFormer-B2 to B0 as mmseg trains them, mIoU at full size; 8 GPUs, 160 000
# iterations a stage:
#   torchrun --nproc-per-node 8 tools/train.py configs/transkd/transkd_segformer_cityscapes.py --launcher pytorch
_base_ = '../_base_/recipes/transkd.py'

folder = 'cityscapes'
