# ADE20K, 150 classes, 1/8 labelled; crops of 512 x 512. Index 0 of the files is no class.
_base_ = 'semi_supervised_semantic.py'

import mmseg.datasets.ade

from castkd.data_configs import map_crop, random_geometry, scale_jitter, semantic_data

data_root = 'data/ADEChallengeData2016/'
metainfo = mmseg.datasets.ade.ADE20KDataset.METAINFO
metainfo = dict(classes=metainfo['classes'], palette=metainfo['palette'])
classes = metainfo['classes']
geometry = random_geometry(scale_jitter((2048, 512), 0.5, 2.0), map_crop((512, 512)))
# Every name that semantic_data returns becomes a top-level name of this config.
globals().update(
    semantic_data(
        _base_,
        dict(
            type='mmseg.ADE20KDataset',
            data_root=data_root,
            metainfo=metainfo,
            reduce_zero_label=True,
        ),
        train=dict(images='images/training', maps='annotations/training'),
        val=dict(images='images/validation', maps='annotations/validation'),
        augmentation=geometry,
        test_scale=(2048, 512),
    )
)
