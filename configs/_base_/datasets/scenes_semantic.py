# Generated street scenes (python tools/make_scenes.py): Cityscapes layout and its 19 classes,
# 128 x 256, 1/8 labelled.
_base_ = 'cityscapes_semantic.py'

from castkd.data_configs import map_crop, random_geometry, scale_jitter, semantic_data

data_root = 'data/scenes/'
geometry = random_geometry(scale_jitter((256, 128), 0.75, 1.5), map_crop((128, 256)))
globals().update(
    semantic_data(
        _base_,
        dict(type='mmseg.CityscapesDataset', data_root=data_root, metainfo=_base_.metainfo),
        train=dict(images='leftImg8bit/train', maps='gtFine/train'),
        val=dict(images='leftImg8bit/val', maps='gtFine/val'),
        augmentation=geometry,
        test_scale=(256, 128),
    )
)
