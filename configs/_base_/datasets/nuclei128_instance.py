# Microscopy nuclei cut into 128 x 128 tiles (python tools/convert/nuclei.py): one class, 10 % labelled.
# For a part of the tiles, replace ann_file: train_cells.json, train_stained.json and so on.
_base_ = 'semi_supervised.py'

from castkd.data_configs import (
    color_jitter,
    instance_crop,
    instance_data,
    random_geometry,
    scale_jitter,
)

data_root = 'data/nuclei128/'
classes = ('nucleus',)
metainfo = dict(classes=classes)
dataset = dict(type='mmdet.CocoDataset', data_root=data_root, metainfo=metainfo)
files = dict(train=('train.json', 'train/'), val=('val.json', 'val/'))
# A tile has no upside: each of the four orientations is as likely.
flip = dict(prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal'])
image_size = (128, 128)
double_size = (256, 256)  # of a teacher that sees tiles at twice their size
augmentation, double_augmentation = [
    [
        *random_geometry(scale_jitter(size, 0.8, 1.25), instance_crop(size), flip),
        color_jitter(),
    ]
    for size in (image_size, double_size)
]
# Every name that instance_data returns becomes a top-level name of this config.
globals().update(
    instance_data(
        _base_,
        dataset,
        **files,
        augmentation=augmentation,
        test_scale=image_size,
    )
)
