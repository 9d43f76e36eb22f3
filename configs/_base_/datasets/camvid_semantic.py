# CamVid street scenes, 480 x 360, 11 classes, 1/8 labelled (46 of 367). Files: data/README.md.
_base_ = 'semi_supervised_semantic.py'

from castkd.data_configs import map_crop, random_geometry, scale_jitter, semantic_data

data_root = 'data/camvid/'
classes = (
    'sky', 'building', 'pole', 'road', 'sidewalk', 'tree', 'sign', 'fence', 'car', 'pedestrian',
    'bicyclist',
)  # fmt: skip
palette = [
    [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
    [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
]  # fmt: skip
# 1 / ln(1.02 + share of the labelled pixels of train) (Paszke et al., "ENet", arXiv 1606.02147): five of the classes
# cover 4 % of the pixels together, and a short training never predicts them with all pixels alike.
class_weight = [5.6, 4.3, 33.6, 3.3, 15.5, 8.7, 31.5, 32.0, 12.8, 38.0, 43.9]
dataset = dict(
    type='mmseg.BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
    img_suffix='.jpg',
    seg_map_suffix='.png',
)
files = dict(
    train=dict(images='images/train', maps='labels/train'),
    val=dict(images='images/val', maps='labels/val'),
)
geometry = random_geometry(scale_jitter((480, 360), 0.5, 2.0), map_crop((320, 320)))
# Every name that semantic_data returns becomes a top-level name of this config.
globals().update(
    semantic_data(_base_, dataset, **files, augmentation=geometry, test_scale=(480, 360))
)
