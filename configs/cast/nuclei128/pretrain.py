# Before stage 1a: the teacher on all labels of another domain, in more colours than it has, as a foundation model is
# trained on images of many kinds: inverted, tinted, lighter and darker.
_base_ = './adapt.py'
from castkd.data_configs import labeled_only

cells = dict(
    _base_.labeled_dataset,
    ann_file='train_cells.json',
    pipeline=[
        *_base_.load_labeled,
        dict(type='mmdet.Invert', prob=0.5),
        # A quarter of the grey images take on a colour.
        dict(type='mmdet.YOLOXHSVRandomAug', hue_delta=90, saturation_delta=255, value_delta=30),
        *_base_.double_augmentation,
        *_base_.labeled_views,
    ],
)
train_dataloader = labeled_only(cells, 8, split=False)
train_cfg = dict(max_iters=2000)
del cells
