# TransKD on ADE20K, SegFormer-B2 to B0 as mmseg trains them; 8 GPUs, 160 000 iterations a stage:
#   torchrun --nproc-per-node 8 tools/train.py configs/transkd/transkd_segformer_ade20k.py --launcher pytorch
_base_ = '../_base_/recipes/transkd.py'

folder = 'ade20k'
