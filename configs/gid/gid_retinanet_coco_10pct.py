# GID on COCO with 10 % of the images labelled, on labelled and unlabelled images (an extension of the
# paper), RetinaNet, ResNet-101 to ResNet-50, 16 images a step:
#   python tools/train.py configs/gid/gid_retinanet_coco_10pct.py --cfg-options fraction=0.05
_base_ = ['../_base_/recipes/gid.py', 'coco/retinanet.py']

folder = 'coco'
distill_stage = 'distill_unlabeled.py'
