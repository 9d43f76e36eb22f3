# Generated street scenes (python tools/make_scenes.py): Cityscapes layout, 128 x 256, 10 % labelled. Of the eight
# classes cars alone: in minutes from random weights the others are not found.
_base_ = 'semi_supervised.py'

from castkd.data_configs import instance_crop, instance_data, random_geometry, scale_jitter

data_root = 'data/scenes/'
classes = ('car',)
metainfo = dict(classes=classes)
image_size = (256, 128)  # (width, height)
geometry = random_geometry(scale_jitter(image_size, 0.75, 1.5), instance_crop(image_size))
# Every name that instance_data returns becomes a top-level name of this config.
globals().update(
    instance_data(
        _base_,
        dict(type='mmdet.CityscapesDataset', data_root=data_root, metainfo=metainfo),
        train=('annotations/instancesonly_filtered_gtFine_train.json', 'leftImg8bit/train/'),
        val=('annotations/instancesonly_filtered_gtFine_val.json', 'leftImg8bit/val/'),
        augmentation=geometry,
        test_scale=image_size,
    )
)
