# ADE20K instances: 100 thing classes, 10 % labelled; crops and scales of CAST's student (630 x 630;
# short side 0.5 to 2 x 630). Annotation files: python tools/convert/ade20k_to_coco.py
# data/ADEChallengeData2016
_base_ = 'semi_supervised.py'

import mmdet.datasets.ade20k

from castkd.data_configs import (
    color_jitter,
    instance_crop,
    instance_data,
    random_geometry,
    short_side_jitter,
)

data_root = 'data/ADEChallengeData2016/'
classes = mmdet.datasets.ade20k.ADE20KInstanceDataset.METAINFO['classes']
metainfo = dict(classes=classes)
dataset = dict(type='mmdet.ADE20KInstanceDataset', data_root=data_root, metainfo=metainfo)
files = dict(
    train=('ade20k_instance_train.json', 'images/training/'),
    val=('ade20k_instance_val.json', 'images/validation/'),
)
test_scale = (2560, 630)
geometry = random_geometry(short_side_jitter(630, longest=2560), instance_crop((630, 630)))
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
