# COCO instances: 80 classes, 10 % of train2017 labelled; large-scale jitter of Guided Distillation
# (1024 x 1024, scale 0.1 to 2).
_base_ = 'semi_supervised.py'

import mmdet.datasets

data_root = 'data/coco/'
classes = mmdet.datasets.CocoDataset.METAINFO['classes']
metainfo = dict(classes=classes)
image_size = (1024, 1024)

geometry = [
    dict(
        type='RandomResize',
        scale=image_size,
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
        resize_type='mmdet.Resize',
    ),
    dict(
        type='mmdet.RandomCrop',
        crop_size=image_size,
        allow_negative_crop=True,
        recompute_bbox=True,
    ),
    dict(type='mmdet.RandomFlip', prob=0.5),
]
labeled_pipeline = _base_.load_labeled + geometry + _base_.labeled_views
unlabeled_pipeline = _base_.load_unlabeled + geometry + _base_.unlabeled_views
pseudo_pipeline = _base_.load_labeled + geometry + _base_.unlabeled_views
test_pipeline = [
    *_base_.load_image,
    dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True),
    *_base_.load_labels,
    _base_.pack,
]

labeled_dataset = dict(
    type='mmdet.CocoDataset',
    data_root=data_root,
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
    metainfo=metainfo,
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=labeled_pipeline,
)
unlabeled_dataset = dict(
    type='castkd.ImageFolder',
    data_root=data_root,
    data_prefix=dict(img='train2017/'),
    metainfo=metainfo,
    pipeline=unlabeled_pipeline,
)
train_dataloader = dict(
    dataset=dict(sources=dict(labeled=labeled_dataset, unlabeled=unlabeled_dataset))
)
val_dataloader = dict(
    dataset=dict(
        type='mmdet.CocoDataset',
        data_root=data_root,
        ann_file='annotations/instances_val2017.json',
        data_prefix=dict(img='val2017/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet.CocoMetric',
    ann_file=data_root + 'annotations/instances_val2017.json',
    metric='segm',
)
test_evaluator = val_evaluator
