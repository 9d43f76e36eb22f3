# Guided Distillation (Berrada et al., WACV 2024) on Cityscapes instances with 10 % of the labels, beside CAST: the same
# student, images per step and number of steps. GPUs with 80 GB.
#   python tools/train.py configs/guided_distillation/gd_cityscapes.py --amp
# Labelled fraction (usual: 5, 10, 20 and 30 %) and seed are variables:
#   --cfg-options fraction=0.3 seed=1 --work-dir work_dirs/other
# Not trained here yet. Weights of DINOv2 come from the Hugging Face hub or a folder: ../cast/cityscapes/student.py.
_base_ = '../_base_/recipes/guided_distillation.py'

fraction = 0.1
folder = 'cityscapes'
