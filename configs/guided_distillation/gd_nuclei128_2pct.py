# Guided Distillation (Berrada et al., WACV 2024) on microscopy nuclei with 2 % of the tiles labelled,
# about an hour on 2 CPU cores:
#   python tools/train.py configs/guided_distillation/gd_nuclei128_2pct.py
# Teacher and student have one architecture, as the moving average needs it. Results: docs/results.md.
_base_ = '../_base_/recipes/guided_distillation.py'

fraction = 0.02
folder = 'nuclei128'
