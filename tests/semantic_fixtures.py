"""Tiny data sets of label maps on disk, each in the true format of the real one.

Every function fills a folder with 12 training and 2 validation images and returns the class indices (H, W) per split
and image name, 255 where there is no class.
"""

import cv2
import numpy as np
from PIL import Image

from tests.fixtures import SIZE, make_scenes, random_image


def write_map(path, indices, mode='L'):
    """Write an index map; with mode P as VOC does, each index with a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(indices, dtype=np.uint8), mode='L')
    if mode == 'P':
        image = image.copy()
        colours = np.random.default_rng(0).integers(0, 256, 768).tolist()
        image.putpalette(colours)
    image.save(path)


def random_labels(rng, num_classes, size=SIZE):
    """Return blocks of random classes with an ignored border."""
    labels = cv2.resize(
        rng.integers(0, num_classes, (4, 5), dtype=np.uint8),
        size[::-1],
        interpolation=cv2.INTER_NEAREST,
    )
    labels[:2] = 255
    return labels


def _fill(root, num_classes, image_path, map_path, stored=lambda labels: labels, mode='L'):
    rng = np.random.default_rng(0)
    truth = {}
    for split, count in (('train', 12), ('val', 2)):
        truth[split] = {}
        for index in range(count):
            labels = random_labels(rng, num_classes)
            path = root / image_path(split, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), random_image(rng))
            write_map(root / map_path(split, index), stored(labels), mode)
            truth[split][path.name] = labels
    return truth


def make_camvid(root):
    """Make CamVid: 11 classes, frames of drives."""
    return _fill(
        root,
        11,
        lambda split, index: f'images/{split}/0001TP_{index:06d}.jpg',
        lambda split, index: f'labels/{split}/0001TP_{index:06d}.png',
    )


def make_ade20k(root):
    """Make ADE20K's scene parsing: index 0 is no class, the 150 classes are 1 to 150."""
    folders = {'train': 'training', 'val': 'validation'}
    return _fill(
        root,
        150,
        lambda split, index: f'images/{folders[split]}/ADE_{split}_{index + 1:08d}.jpg',
        lambda split, index: f'annotations/{folders[split]}/ADE_{split}_{index + 1:08d}.png',
        lambda labels: np.where(labels == 255, 0, labels + 1),
    )


def make_voc2012aug(root):
    """Make VOC 2012 aug: all images in one folder, lists of names, maps with a palette."""
    name = '{}_{:06d}'.format
    truth = _fill(
        root,
        21,
        lambda split, index: f'JPEGImages/{name({"train": 2007, "val": 2008}[split], index)}.jpg',
        lambda split, index: (
            f'SegmentationClassAug/{name({"train": 2007, "val": 2008}[split], index)}.png'
        ),
        mode='P',
    )
    lists = root / 'ImageSets' / 'Segmentation'
    lists.mkdir(parents=True)
    for split, file in (('train', 'trainaug.txt'), ('val', 'val.txt')):
        names = [image.removesuffix('.jpg') for image in truth[split]]
        (lists / file).write_text('\n'.join(names) + '\n')
    return truth


def make_cityscapes(root):
    """Make generated street scenes, which have the format of Cityscapes."""
    make_scenes(root, num_train=12, num_val=2, size=SIZE)
    truth = {}
    for split in ('train', 'val'):
        paths = sorted((root / 'gtFine' / split).glob('*/*_labelTrainIds.png'))
        truth[split] = {
            path.name.replace('gtFine_labelTrainIds', 'leftImg8bit'): np.asarray(Image.open(path))
            for path in paths
        }
    return truth
