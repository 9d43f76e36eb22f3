# CAST on microscopy nuclei with 2 % of the tiles labelled (33 of 1636), from random weights, two
# to three hours on 2 CPU cores:
#   python tools/train.py configs/cast/cast_nuclei128_2pct.py
# Labelled fraction and seed are variables:
#   --cfg-options seed=1 fraction=0.1 --work-dir work_dirs/other
# Results: docs/results.md.
_base_ = '../_base_/recipes/cast.py'

fraction = 0.02
folder = 'nuclei128'
images = 'data/nuclei128/train'
reference = 'data/nuclei128/train.json'
score_thr = 0.3
min_kept = 0.5  # ours: without slivers under a better mask of the same nucleus
