# Generated street scenes (python tools/make_scenes.py): Cityscapes layout and classes, 128 x 256,
# 10 % labelled.
_base_ = 'semi_supervised.py'

from castkd.data_configs import instance_crop, instance_data, random_geometry, scale_jitter

data_root = 'data/scenes/'
classes = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
metainfo = dict(classes=classes)
dataset = dict(type='mmdet.CityscapesDataset', data_root=data_root, metainfo=metainfo)
files = dict(
    train=('annotations/instancesonly_filtered_gtFine_train.json', 'leftImg8bit/train/'),
    val=('annotations/instancesonly_filtered_gtFine_val.json', 'leftImg8bit/val/'),
)
image_size = (256, 128)  # (width, height)
geometry = random_geometry(scale_jitter(image_size, 0.75, 1.5), instance_crop(image_size))
# Every name that instance_data returns becomes a top-level name of this config.
globals().update(
    instance_data(_base_, dataset, **files, augmentation=geometry, test_scale=image_size)
)
