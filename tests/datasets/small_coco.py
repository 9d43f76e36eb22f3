"""Twelve small images with a COCO file, as labelled and as unlabelled source."""

import json

import cv2
import numpy as np

META_KEYS = ('img_id', 'img_path', 'img_shape', 'flip', 'homography_matrix')
LABELED_PIPELINE = [
    {'type': 'castkd.LoadImage'},
    {'type': 'mmdet.LoadAnnotations', 'with_bbox': True, 'with_mask': True, 'poly2mask': True},
    {'type': 'mmdet.RandomFlip', 'prob': 0.5},
    {'type': 'mmdet.PackDetInputs', 'meta_keys': META_KEYS},
]
POOL_PIPELINE = [
    {'type': 'castkd.LoadImage'},
    {'type': 'mmdet.LoadEmptyAnnotations', 'with_mask': True},
    {'type': 'mmdet.RandomFlip', 'prob': 0.5},
    {'type': 'castkd.StrongPhotometric'},
    {'type': 'mmdet.PackDetInputs', 'meta_keys': META_KEYS},
]


def names():
    return [f'city{i % 2}/{i:02d}.png' for i in range(12)]


def write_annotations(path, images, with_objects):
    """Write a COCO file of all ``images``; those in ``with_objects`` have one object."""
    content = {
        'images': [
            {'id': i, 'file_name': name, 'width': 32, 'height': 24} for i, name in enumerate(images)
        ],
        'annotations': [
            {
                'id': i,
                'image_id': i,
                'category_id': 1,
                'bbox': [4, 4, 16, 16],
                'area': 256,
                'segmentation': [[4, 4, 20, 4, 20, 20, 4, 20]],
            }
            for i, name in enumerate(images)
            if name in with_objects
        ],
        'categories': [{'id': 1, 'name': 'thing'}],
    }
    path.write_text(json.dumps(content))


def write_images(root):
    """Write the images and an annotation file in which each has an object."""
    rng = np.random.RandomState(0)
    for name in names():
        path = root / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.randint(0, 256, (24, 32, 3), np.uint8))
    write_annotations(root / 'train.json', names(), names())


def coco(root, ann_file='train.json', **options):
    return {
        'type': 'mmdet.CocoDataset',
        'data_root': str(root),
        'ann_file': ann_file,
        'data_prefix': {'img': 'images'},
        'metainfo': {'classes': ('thing',)},
        'filter_cfg': {'filter_empty_gt': True},
        'pipeline': LABELED_PIPELINE,
        'serialize_data': False,  # mmengine collects garbage to serialise, which takes a second
        **options,
    }


def folder(root, **options):
    return {
        'type': 'castkd.ImageFolder',
        'data_root': str(root),
        'data_prefix': {'img': 'images'},
        'pipeline': POOL_PIPELINE,
        'serialize_data': False,
        **options,
    }
