# Cityscapes, 19 classes, 1/8 labelled; crops of 512 x 1024. Label maps: the labelTrainIds of
# cityscapesscripts (python -m cityscapesscripts.preparation.createTrainIdLabelImgs).
_base_ = 'semi_supervised_semantic.py'

import mmseg.datasets.cityscapes

from castkd.data_configs import map_crop, random_geometry, scale_jitter, semantic_data

data_root = 'data/cityscapes/'
metainfo = mmseg.datasets.cityscapes.CityscapesDataset.METAINFO
metainfo = dict(classes=metainfo['classes'], palette=metainfo['palette'])
classes = metainfo['classes']
geometry = random_geometry(scale_jitter((2048, 1024), 0.5, 2.0), map_crop((512, 1024)))
# Every name that semantic_data returns becomes a top-level name of this config.
globals().update(
    semantic_data(
        _base_,
        dict(type='mmseg.CityscapesDataset', data_root=data_root, metainfo=metainfo),
        train=dict(images='leftImg8bit/train', maps='gtFine/train'),
        val=dict(images='leftImg8bit/val', maps='gtFine/val'),
        augmentation=geometry,
        test_scale=(2048, 1024),
    )
)
