# ADE20K instances: 100 thing classes, 10 % labelled; crops and scales of CAST's student (630 x 630;
# short side 0.5 to 2 x 630). Annotation files: python tools/convert/ade20k_to_coco.py
# data/ADEChallengeData2016
_base_ = 'semi_supervised.py'

import mmdet.datasets.ade20k

data_root = 'data/ADEChallengeData2016/'
classes = mmdet.datasets.ade20k.ADE20KInstanceDataset.METAINFO['classes']
metainfo = dict(classes=classes)

geometry = [
    dict(
        type='RandomChoiceResize',
        scales=[63 * tenths for tenths in range(5, 21)],
        resize_type='mmdet.ResizeShortestEdge',
        max_size=2560,
    ),
    dict(
        type='mmdet.RandomCrop',
        crop_size=(630, 630),
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
    dict(type='mmdet.Resize', scale=(2560, 630), keep_ratio=True),
    *_base_.load_labels,
    _base_.pack,
]

labeled_dataset = dict(
    type='mmdet.ADE20KInstanceDataset',
    data_root=data_root,
    ann_file='ade20k_instance_train.json',
    data_prefix=dict(img='images/training/'),
    metainfo=metainfo,
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=labeled_pipeline,
)
unlabeled_dataset = dict(
    type='castkd.ImageFolder',
    data_root=data_root,
    data_prefix=dict(img='images/training/'),
    metainfo=metainfo,
    pipeline=unlabeled_pipeline,
)
train_dataloader = dict(
    dataset=dict(sources=dict(labeled=labeled_dataset, unlabeled=unlabeled_dataset))
)
val_dataloader = dict(
    dataset=dict(
        type='mmdet.ADE20KInstanceDataset',
        data_root=data_root,
        ann_file='ade20k_instance_val.json',
        data_prefix=dict(img='images/validation/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet.CocoMetric',
    ann_file=data_root + 'ade20k_instance_val.json',
    metric='segm',
)
test_evaluator = val_evaluator
