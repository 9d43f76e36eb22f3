# A quarter of the cars are narrower than 12 pixels: the smallest anchors are 8 pixels wide, the largest 100.
_base_ = []  # without it mmengine takes a file with imports for one of its lazy configs
from castkd.architectures import retinanet

geometry = dict(channels=32, stacked_convs=1, first_level=2, num_levels=4, anchor_size=2)
network = retinanet(1, depth=18, base_channels=8, **geometry)
big = retinanet(1, depth=18, base_channels=32, **geometry)
del geometry
