# The runtime of segmentors: default.py in the scope of mmseg, with its visualizer.
_base_ = 'default.py'

default_scope = 'mmseg'
visualizer = dict(type='SegLocalVisualizer')
