# MGD on Cityscapes, 1/8 labelled; ResNet-18 and MobileNetV2 from ResNet-101 and Wide ResNet-50-2, all
# from ImageNet weights, on 4 GPUs:
#   torchrun --nproc-per-node 4 tools/train.py configs/mgd/mgd_cityscapes.py --launcher pytorch
# Other partitions: --cfg-options fraction=0.0625 (0.25, 0.5) --work-dir work_dirs/mgd_cityscapes_16
_base_ = '../_base_/recipes/mgd_mobilenet.py'

folder = 'cityscapes'
