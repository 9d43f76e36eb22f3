# Objects of Pascal VOC, 20 classes: 2007 and 2012 trainval (16 551 images), all labelled; validation on 2007 test. The
# shorter side is 600 pixels, half of the images are mirrored.
_base_ = 'semi_supervised.py'

import mmdet.datasets

from castkd.data_configs import data_parts

data_root = 'data/VOCdevkit/'
classes = mmdet.datasets.VOCDataset.METAINFO['classes']
metainfo = dict(classes=classes)
test_scale = (1000, 600)
resize = dict(type='mmdet.Resize', scale=test_scale, keep_ratio=True)
load_labels = [dict(type='mmdet.LoadAnnotations', with_bbox=True)]
shared = [resize, dict(type='mmdet.RandomFlip', prob=0.5)]
# Boxes alone: there are no masks to judge by whether an object is left.
keep = dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False)
views = [
    keep,
    dict(type='mmdet.MultiBranch', branch_field=_base_.branch_field, sup=[_base_.pack]),
]
pipelines = dict(
    labeled=[*_base_.load_image, *load_labels, *shared, *views],
    test=[*_base_.load_image, resize, *load_labels, _base_.pack],
)
labeled = dict(
    type='castkd.VOCYears',
    data_root=data_root,
    metainfo=metainfo,
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=pipelines['labeled'],
)
tested = dict(
    type='mmdet.VOCDataset',
    data_root=data_root,
    ann_file='VOC2007/ImageSets/Main/test.txt',
    data_prefix=dict(sub_data_root='VOC2007/'),
    metainfo=metainfo,
    test_mode=True,
    pipeline=pipelines['test'],
)
# AP as on COCO (the mean over ten overlaps, all points of the curve), AP50 and AP75.
metric = dict(
    type='mmdet.VOCMetric',
    metric='mAP',
    eval_mode='area',
    iou_thrs=[0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95],
)
globals().update(data_parts(pipelines, dict(labeled=labeled), tested, metric))
