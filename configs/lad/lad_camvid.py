# LAD on CamVid, all 367 images labelled: a small network from random weights that a CPU can train:
#   python tools/train.py configs/lad/lad_camvid.py
# Another seed: --cfg-options seed=1 --work-dir work_dirs/lad_camvid_1
_base_ = '../_base_/recipes/lad.py'

from mmengine.config import Config

folder = 'camvid'
# The recipe puts networks into its stages: here those that the stage configs have when they are used alone.
stage = Config.fromfile('{{ fileDirname }}/camvid/base.py').to_dict()
network, twin = stage['network'], stage['twin']
del Config, stage
