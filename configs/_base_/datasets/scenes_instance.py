# Generated street scenes (python tools/make_scenes.py): Cityscapes layout and classes, 128 x 256,
# 10 % labelled.
_base_ = 'semi_supervised.py'

data_root = 'data/scenes/'
classes = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
metainfo = dict(classes=classes)
image_size = (256, 128)  # (width, height)

geometry = [
    dict(
        type='RandomResize',
        scale=image_size,
        ratio_range=(0.75, 1.5),
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
    dict(type='mmdet.Resize', scale=image_size, keep_ratio=True),
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
val_evaluator = dict(
    type='mmdet.CocoMetric',
    ann_file=data_root + 'annotations/instancesonly_filtered_gtFine_val.json',
    metric='segm',
)
test_evaluator = val_evaluator
