# What the teacher's stages share: 2.9 M parameters, and tiles at twice their size. With its resolution it costs six
# times as much as the student, and draws finer masks.
_base_ = './base.py'
from castkd.architectures import solov2
from castkd.data_configs import instance_data

# Every name that instance_data returns takes the place of the student's.
globals().update(
    instance_data(
        _base_,
        _base_.dataset,
        **_base_.files,
        augmentation=_base_.double_augmentation,
        test_scale=_base_.double_size,
    )
)
teacher = solov2(
    num_classes=1,
    depth=18,
    base_channels=32,
    channels=32,
    stacked_convs=2,
    num_grids=(32, 24, 16, 8),
    scale_ranges=((1, 48), (32, 96), (64, 192), (128, 512)),
    smallest=(2, 2, 4, 8),
    area_targets=True,
    mask_thr=0.475,  # of twice the resolution
    max_per_image=60,
)
contrast = dict(feature='backbone[2]', projector=dict(in_channels=128))
