# The networks of the RetinaNet recipe, and of a stage that is trained alone. A tile is 128 x 128 pixels: the smallest
# anchors are 8 pixels wide, the largest 100. The teacher sees tiles at twice their size, where its levels have twice
# the stride: slot by slot they lie on the student's.
_base_ = []  # without it mmengine takes a file with imports for one of its lazy configs
from castkd.architectures import retinanet

geometry = dict(channels=32, stacked_convs=2, num_levels=4, anchor_size=2)
network = retinanet(1, depth=18, base_channels=8, first_level=2, **geometry)
big = retinanet(1, depth=18, base_channels=32, first_level=3, **geometry)
del geometry
