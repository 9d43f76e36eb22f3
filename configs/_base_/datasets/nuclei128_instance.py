# Microscopy nuclei cut into 128 x 128 tiles (python tools/convert/nuclei.py): one class, 10 % labelled.
# For a part of the tiles, replace ann_file: train_cells.json, train_stained.json and so on.
_base_ = 'semi_supervised.py'

data_root = 'data/nuclei128/'
classes = ('nucleus',)
metainfo = dict(classes=classes)
image_size = (128, 128)

geometry = [
    dict(
        type='RandomResize',
        scale=image_size,
        ratio_range=(0.8, 1.25),
        keep_ratio=True,
        resize_type='mmdet.Resize',
    ),
    dict(
        type='mmdet.RandomCrop',
        crop_size=image_size,
        allow_negative_crop=True,
        recompute_bbox=True,
    ),
    # A tile has no upside: each of the four orientations is as likely.
    dict(
        type='mmdet.RandomFlip',
        prob=[0.25, 0.25, 0.25],
        direction=['horizontal', 'vertical', 'diagonal'],
    ),
]
labeled_pipeline = _base_.load_labeled + geometry + _base_.labeled_views
unlabeled_pipeline = _base_.load_unlabeled + geometry + _base_.unlabeled_views
pseudo_pipeline = _base_.load_labeled + geometry + _base_.unlabeled_views
test_pipeline = [
    *_base_.load_image,
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
    *_base_.load_labels,
    _base_.pack,
]

labeled_dataset = dict(
    type='mmdet.CocoDataset',
    data_root=data_root,
    ann_file='train.json',
    data_prefix=dict(img='train/'),
    metainfo=metainfo,
    filter_cfg=dict(filter_empty_gt=True),
    pipeline=labeled_pipeline,
)
unlabeled_dataset = dict(
    type='castkd.ImageFolder',
    data_root=data_root,
    data_prefix=dict(img='train/'),
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
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmdet.CocoMetric',
    ann_file=data_root + 'val.json',
    metric='segm',
)
test_evaluator = val_evaluator
