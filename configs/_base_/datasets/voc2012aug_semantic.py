# VOC 2012 with the additional labels of SBD (10 582 images), 21 classes, 1/8 labelled; images at 0.5, 0.6 ... 2 times
# their own size, any crop of 512 x 512 of them; validation at their own size.
_base_ = 'semi_supervised_semantic.py'

import mmseg.datasets.voc

from castkd.data_configs import file_size_jitter, map_crop, random_geometry, semantic_data

data_root = 'data/VOCdevkit/VOC2012/'
metainfo = mmseg.datasets.voc.PascalVOCDataset.METAINFO
metainfo = dict(classes=metainfo['classes'], palette=metainfo['palette'])
classes = metainfo['classes']
geometry = random_geometry(
    file_size_jitter([tenths / 10 for tenths in range(5, 21)]),
    map_crop((512, 512), cat_max_ratio=1.0),
)
maps = 'SegmentationClassAug'
# Every name that semantic_data returns becomes a top-level name of this config.
globals().update(
    semantic_data(
        _base_,
        dict(
            type='mmseg.BaseSegDataset',
            data_root=data_root,
            metainfo=metainfo,
            img_suffix='.jpg',
            seg_map_suffix='.png',
        ),
        train=dict(images='JPEGImages', maps=maps, names='ImageSets/Segmentation/trainaug.txt'),
        val=dict(images='JPEGImages', maps=maps, names='ImageSets/Segmentation/val.txt'),
        augmentation=geometry,
        test_scale=None,
        palette=True,
    )
)
