# Generated street scenes (python tools/make_scenes.py): Cityscapes layout and its 19 classes,
# 128 x 256, 1/8 labelled.
_base_ = 'cityscapes_semantic.py'

from castkd.semantic_data import random_geometry, semantic_data

data_root = 'data/scenes/'
geometry = random_geometry((256, 128), crop_size=(128, 256), ratio_range=(0.75, 1.5))
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
