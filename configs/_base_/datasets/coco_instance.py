# COCO instances: 80 classes, 10 % of train2017 labelled; large-scale jitter of Guided Distillation
# (1024 x 1024, scale 0.1 to 2).
_base_ = 'semi_supervised.py'

import mmdet.datasets

from castkd.data_configs import instance_crop, instance_data, random_geometry, scale_jitter

data_root = 'data/coco/'
classes = mmdet.datasets.CocoDataset.METAINFO['classes']
metainfo = dict(classes=classes)
dataset = dict(type='mmdet.CocoDataset', data_root=data_root, metainfo=metainfo)
files = dict(
    train=('annotations/instances_train2017.json', 'train2017/'),
    val=('annotations/instances_val2017.json', 'val2017/'),
)
test_scale = (1333, 800)
image_size = (1024, 1024)
geometry = random_geometry(scale_jitter(image_size, 0.1, 2.0), instance_crop(image_size))
# Every name that instance_data returns becomes a top-level name of this config.
globals().update(
    instance_data(
        _base_,
        dataset,
        **files,
        augmentation=geometry,
        test_scale=test_scale,
    )
)
