# Cityscapes instances: 8 thing classes, 10 % labelled; crops and scales of CAST's student (512 x
# 1024; short side 0.5 to 2 x 1024). Annotation files: python tools/convert/cityscapes_to_coco.py
# data/cityscapes
_base_ = 'semi_supervised.py'

import importlib.util

data_root = 'data/cityscapes/'
classes = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
metainfo = dict(classes=classes)

geometry = [
    dict(
        type='RandomChoiceResize',
        scales=[1024 * tenths // 10 for tenths in range(5, 21)],
        resize_type='mmdet.ResizeShortestEdge',
        max_size=4096,
    ),
    dict(
        type='mmdet.RandomCrop',
        crop_size=(1024, 512),  # (width, height)
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
    dict(type='mmdet.Resize', scale=(2048, 1024), keep_ratio=True),
    *_base_.load_labels,
    _base_.pack,
]

labeled_dataset = dict(
    type='mmdet.CityscapesDataset',
    data_root=data_root,
    ann_file='annotations/instancesonly_filtered_gtFine_train.json',
    data_prefix=dict(img='leftImg8bit/train/'),
    metainfo=metainfo,
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=labeled_pipeline,
)
unlabeled_dataset = dict(
    type='castkd.ImageFolder',
    data_root=data_root,
    data_prefix=dict(img='leftImg8bit/train/'),
    metainfo=metainfo,
    pipeline=unlabeled_pipeline,
)
train_dataloader = dict(
    dataset=dict(sources=dict(labeled=labeled_dataset, unlabeled=unlabeled_dataset))
)
val_dataloader = dict(
    dataset=dict(
        type='mmdet.CityscapesDataset',
        data_root=data_root,
        ann_file='annotations/instancesonly_filtered_gtFine_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='mmdet.CocoMetric',
        ann_file=data_root + 'annotations/instancesonly_filtered_gtFine_val.json',
        metric='segm',
    )
]
# The benchmark's own evaluation; it writes its files into a temporary folder.
if importlib.util.find_spec('cityscapesscripts'):
    val_evaluator += [
        dict(
            type='mmdet.CityScapesMetric',
            seg_prefix=data_root + 'gtFine/val',
            outfile_prefix=None,
        )
    ]
test_evaluator = val_evaluator
