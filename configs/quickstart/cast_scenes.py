# Quickstart: three-stage CAST on generated street scenes (60 of 600 labelled), minutes on 2 CPU cores:
#   python tools/make_scenes.py && python tools/train.py configs/quickstart/cast_scenes.py
# So short a run shows how everything fits together; docs/results.md has runs that say how well it
# works.
_base_ = '../_base_/recipes/cast.py'

folder = 'scenes'
images = 'data/scenes/leftImg8bit/train'
reference = 'data/scenes/annotations/instancesonly_filtered_gtFine_train.json'
score_thr = 0.3
min_kept = 0.5
