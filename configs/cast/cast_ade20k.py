# CAST on ADE20K instances with 10 % of the labels, networks and schedule of the paper; GPUs with 80 GB.
#   python tools/train.py configs/cast/cast_ade20k.py --amp
# Labelled fraction (usual: 10 %) and seed are variables:
#   --cfg-options fraction=0.05 seed=1 --work-dir work_dirs/other
# Not trained here yet. Weights of DINOv2, MM-Grounding-DINO and SAM 2.1 come from the Hugging Face hub or from folders:
# pretrained in student.py; detector and segmenter in teacher.py.
_base_ = '../_base_/recipes/cast.py'

fraction = 0.1
folder = 'ade20k'
images = 'data/ADEChallengeData2016/images/training'
reference = 'data/ADEChallengeData2016/ade20k_instance_train.json'
score_thr = 0.3
