# CAST on Cityscapes instances with 10 % of the labels, networks and schedule of the paper; GPUs with 80 GB.
#   python tools/train.py configs/cast/cast_cityscapes.py --amp
# Every step, and options for one GPU and for four: docs/cityscapes.md.
# Labelled fraction (usual: 5, 10, 20 and 30 %) and seed are variables:
#   --cfg-options fraction=0.3 seed=1 --work-dir work_dirs/other
# Not trained here yet. Weights of DINOv2, MM-Grounding-DINO and SAM 2.1 come from the Hugging Face hub or from folders:
# pretrained in student.py; detector and segmenter in teacher.py.
_base_ = '../_base_/recipes/cast.py'

fraction = 0.1
folder = 'cityscapes'
images = 'data/cityscapes/leftImg8bit/train'
reference = 'data/cityscapes/annotations/instancesonly_filtered_gtFine_train.json'
score_thr = 0.3
