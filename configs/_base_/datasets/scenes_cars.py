# Generated street scenes, cars alone: in minutes from random weights the other classes are not found.
_base_ = 'scenes_instance.py'

from castkd.data_configs import instance_data

classes = ('car',)
metainfo = dict(classes=classes)
dataset = dict(_base_.dataset, metainfo=metainfo)
globals().update(
    instance_data(
        _base_,
        dataset,
        **_base_.files,
        augmentation=_base_.geometry,
        test_scale=_base_.image_size,
    )
)
