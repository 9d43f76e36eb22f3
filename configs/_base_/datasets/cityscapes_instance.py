# Cityscapes instances: 8 thing classes, 10 % labelled; crops and scales of CAST's student (512 x
# 1024; short side 0.5 to 2 x 1024). Annotation files: python tools/convert/cityscapes_to_coco.py
# data/cityscapes
_base_ = 'semi_supervised.py'

import importlib.util

from castkd.data_configs import (
    color_jitter,
    instance_crop,
    instance_data,
    random_geometry,
    short_side_jitter,
)

data_root = 'data/cityscapes/'
classes = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
metainfo = dict(classes=classes)
dataset = dict(type='mmdet.CityscapesDataset', data_root=data_root, metainfo=metainfo)
files = dict(
    train=('annotations/instancesonly_filtered_gtFine_train.json', 'leftImg8bit/train/'),
    val=('annotations/instancesonly_filtered_gtFine_val.json', 'leftImg8bit/val/'),
)
test_scale = (2048, 1024)
geometry = random_geometry(short_side_jitter(1024, longest=4096), instance_crop((1024, 512)))
# The weak view is that of Mask2Former's training, colours included; the strong one is made from it.
# Every name that instance_data returns becomes a top-level name of this config.
globals().update(
    instance_data(
        _base_,
        dataset,
        **files,
        augmentation=[*geometry, color_jitter()],
        test_scale=test_scale,
    )
)
# The benchmark's own evaluation; it writes its files into a temporary folder.
val_evaluator = [val_evaluator]
if importlib.util.find_spec('cityscapesscripts'):
    val_evaluator += [
        dict(
            type='mmdet.CityScapesMetric',
            seg_prefix=data_root + 'gtFine/val',
            outfile_prefix=None,
        )
    ]
test_evaluator = val_evaluator
