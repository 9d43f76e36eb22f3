"""Tiny data sets on disk, each in the true format of the real one.

Every function fills a folder and returns what was drawn: per split and image file name, a list of (class name, mask,
crowd).
"""

import json

import cv2
import numpy as np
from mmdet.datasets import CocoDataset
from mmdet.datasets.ade20k import ADE20KInstanceDataset
from pycocotools import mask as coco_mask

from castkd.datasets.scenes import generate_scenes

SIZE = (48, 64)
COCO_CLASSES = CocoDataset.METAINFO['classes']
# The ids of COCO's 80 categories leave gaps: these numbers are not used.
COCO_IDS = [i for i in range(1, 91) if i not in {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}]
ADE_CLASSES = ADE20KInstanceDataset.METAINFO['classes']


def rectangle(top, left, bottom, right, size=SIZE):
    """Return a mask (H, W) bool with one rectangle."""
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def random_image(rng, size=SIZE, channels=3):
    """Return a uint8 image that is smooth enough to survive JPEG."""
    small = rng.integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)


def make_coco(root, seed=0):
    """Make COCO 2017: train2017 with 12 images, val2017 with 2; polygons, and a crowd region as run lengths."""
    rng = np.random.default_rng(seed)
    truth = {}
    for split, count in (('train', 12), ('val', 2)):
        content = {
            'images': [],
            'annotations': [],
            'categories': [
                {'id': i, 'name': name, 'supercategory': 'thing'}
                for i, name in zip(COCO_IDS, COCO_CLASSES, strict=True)
            ],
        }
        truth[split] = {}
        for index in range(count):
            name = f'{index + 37777:012d}.jpg'
            _write(root / f'{split}2017' / name, random_image(rng))
            content['images'].append(
                {'id': index + 37777, 'file_name': name, 'height': SIZE[0], 'width': SIZE[1]}
            )
            objects = [
                ('person', rectangle(4, 6, 40, 20), False),
                ('toothbrush', rectangle(10, 30 + index, 30, 50), False),
                ('person', rectangle(40, 30, 48, 64), True),
            ]
            truth[split][name] = objects
            content['annotations'] += [
                _coco_annotation(len(content['annotations']) + offset, index + 37777, *item)
                for offset, item in enumerate(objects, start=1)
            ]
        path = root / 'annotations' / f'instances_{split}2017.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return truth


def _coco_annotation(number, image_id, name, mask, crowd):
    rows, columns = np.nonzero(mask)
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    polygon = [left, top, right, top, right, bottom, left, bottom]
    if crowd:
        runs = np.flatnonzero(np.diff(mask.ravel(order='F'), prepend=False, append=mask[-1, -1]))
        counts = np.diff([0, *runs, mask.size]).tolist()
        segmentation = {'size': list(mask.shape), 'counts': counts}
    else:
        segmentation = [[float(value) for value in polygon]]
    return {
        'id': number,
        'image_id': image_id,
        'category_id': COCO_IDS[COCO_CLASSES.index(name)],
        'segmentation': segmentation,
        'bbox': [int(left), int(top), int(right - left), int(bottom - top)],
        'area': int(mask.sum()),
        'iscrowd': int(crowd),
    }


def make_ade20k(root, seed=0):
    """Make the ADE20K instance track without annotation files: 12 training and 2 validation images."""
    rng = np.random.default_rng(seed)
    truth = {}
    for split, folder, count in (('train', 'training', 12), ('val', 'validation', 2)):
        truth[split] = {}
        for number in range(1, count + 1):
            stem = f'ADE_{split}_{number:08d}'
            objects = [
                ('bed', rectangle(4, 6, 40, 20), False),
                ('flag', rectangle(10, 30 + number, 30, 50), False),
                ('bed', rectangle(40, 30, 48, 64), False),
            ]
            pixels = np.zeros((*SIZE, 3), dtype=np.uint8)
            for instance, (name, mask, _) in enumerate(objects, start=1):
                # OpenCV's order: blue unused, green = number of the instance, red = category.
                pixels[mask] = (0, instance, ADE_CLASSES.index(name) + 1)
            _write(root / 'images' / folder / f'{stem}.jpg', random_image(rng))
            _write(root / 'annotations_instance' / folder / f'{stem}.png', pixels)
            truth[split][f'{stem}.jpg'] = objects
    return truth


def make_scenes(root, num_train=12, num_val=3, size=(128, 256)):
    """Make generated street scenes, which have the format of Cityscapes."""
    generate_scenes(root, num_train=num_train, num_val=num_val, size=size)
    names = {24: 'person', 25: 'rider', 26: 'car', 27: 'truck', 28: 'bus', 31: 'train'}
    names |= {32: 'motorcycle', 33: 'bicycle'}
    truth = {}
    for split in ('train', 'val'):
        truth[split] = {}
        for path in sorted((root / 'gtFine' / split).glob('*/*_instanceIds.png')):
            ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            name = path.name.replace('gtFine_instanceIds', 'leftImg8bit')
            truth[split][name] = [
                (names[label], ids == value, value < 1000)
                for value in np.unique(ids).tolist()
                if (label := value // 1000 or value) in names
            ]
    return truth


def make_stage1_train(root, seed=0):
    """Make the nuclei of the Data Science Bowl: 6 folders, IDs by number, grey and coloured RGBA images."""
    rng = np.random.default_rng(seed)
    truth = {}
    for number in range(6):
        folder = root / f'id{number}'
        size = (140, 300)
        image = random_image(rng, size, 3 if number % 2 else 1).reshape(*size, -1)
        image = np.concatenate(
            [np.broadcast_to(image // (1 + number % 2), (*size, 3)), np.full((*size, 1), 255)], -1
        )
        _write(folder / 'images' / f'id{number}.png', image.astype(np.uint8))
        masks = [
            rectangle(10, 10, 30, 30, size),
            rectangle(50, 60, 70, 90, size),
            rectangle(20, 120, 40, 136, size),
            rectangle(100, 200, 110, 220, size),
            rectangle(60, 160, 64, 161, size),
            rectangle(90, 150, 110, 180, size),
        ]
        for index, mask in enumerate(masks):
            _write(folder / 'masks' / f'{index}.png', mask.astype(np.uint8) * 255)
        truth[f'id{number}'] = (image, masks)
    return truth


def make_nuclei128(root, seed=0):
    """Make tiles of nuclei as they are distributed: 12 for training, 2 for validation, run lengths in JSON."""
    rng = np.random.default_rng(seed)
    size = (128, 128)
    truth = {}
    for split, count in (('train', 12), ('val', 2)):
        images, annotations, truth[split] = [], [], {}
        for index in range(1, count + 1):
            name = f'{index:04d}_0000_0128.png'
            image = random_image(rng, size, 3)
            _write(root / split / name, image if index % 2 else image[..., 0])
            images.append({'id': index, 'file_name': name, 'width': 128, 'height': 128})
            masks = [rectangle(5, 5, 25, 30, size), rectangle(60, 70 + index, 90, 110, size)]
            truth[split][name] = [('nucleus', mask, False) for mask in masks]
            for mask in masks:
                code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
                annotations.append(
                    {
                        'id': len(annotations) + 1,
                        'image_id': index,
                        'category_id': 1,
                        'segmentation': {'size': code['size'], 'counts': code['counts'].decode()},
                        'bbox': coco_mask.toBbox(code).tolist(),
                        'area': int(mask.sum()),
                        'iscrowd': 0,
                    }
                )
        categories = [{'id': 1, 'name': 'nucleus'}]
        content = {'images': images, 'annotations': annotations, 'categories': categories}
        (root / f'{split}.json').write_text(json.dumps(content))
    return truth


def _write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
