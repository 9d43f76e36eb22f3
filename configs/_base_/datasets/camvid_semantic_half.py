# CamVid street scenes read at half their size, 240 x 180, for networks that train on a CPU. Scores are those of
# the files' own pixels: predictions are enlarged.
_base_ = 'camvid_semantic.py'

from castkd.data_configs import map_crop, random_geometry, scale_jitter, semantic_data

geometry = random_geometry(scale_jitter((240, 180), 0.5, 2.0), map_crop((160, 160)))
globals().update(
    semantic_data(
        _base_, _base_.dataset, **_base_.files, augmentation=geometry, test_scale=(240, 180)
    )
)
