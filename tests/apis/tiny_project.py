"""A folder with images, annotations, a config and a checkpoint, small enough for every test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from pycocotools import mask as coco_mask

from castkd.datasets.pseudo_store import encode_masks
from tests.builders import tiny_mask2former

CLASSES = ('car', 'person')
SIZES = ((48, 64), (64, 40), (56, 56), (40, 72), (64, 64))


@dataclass
class TinyProject:
    """Paths of the project.

    Attributes:
        root: Its folder.
        images: Folder with five images of different sizes, one of them in a sub-folder.
        annotations: COCO file of the images.
        config: Config of the plain model.
        checkpoint: Checkpoint of the plain model.
        distiller_config: Config of a distiller with the same student.
        distiller_checkpoint: Checkpoint of that distiller, with the same weights in it.
    """

    root: Path
    images: Path
    annotations: Path
    config: Path
    checkpoint: Path
    distiller_config: Path
    distiller_checkpoint: Path


def make_project(root, seed=0):
    """Write a project into ``root``."""
    root = Path(root)
    names = [f'{index}.png' for index in range(4)] + ['more/4.png']
    truth = write_images(root / 'images', names, seed)
    annotations = root / 'truth.json'
    annotations.write_text(json.dumps(truth))
    project = TinyProject(
        root,
        root / 'images',
        annotations,
        root / 'plain.py',
        root / 'plain.pth',
        root / 'distiller.py',
        root / 'distiller.pth',
    )
    plain = plain_config(project)
    Config(plain).dump(project.config)
    save_checkpoint(project, seed)
    save_distiller(project, plain)
    return project


def plain_config(project):
    """Return the config of the plain model, with the test data of the project."""
    pipeline = [
        {'type': 'castkd.LoadImage'},
        {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
        {
            'type': 'PackDetInputs',
            'meta_keys': ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        },
    ]
    dataset = {
        'type': 'CocoDataset',
        'data_root': str(project.root),
        'ann_file': 'truth.json',
        'data_prefix': {'img': 'images/'},
        'metainfo': {'classes': CLASSES},
        'pipeline': pipeline,
        'test_mode': True,
    }
    loader = {
        'batch_size': 2,
        'num_workers': 0,
        'dataset': dataset,
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
    }
    evaluator = {
        'type': 'CocoMetric',
        'ann_file': str(project.annotations),
        'metric': ['segm'],
    }
    return {
        'default_scope': 'mmdet',
        'custom_imports': {'imports': ['castkd'], 'allow_failed_imports': False},
        'model': tiny_mask2former(len(CLASSES), num_queries=5),
        'test_dataloader': loader,
        'test_evaluator': evaluator,
        'test_cfg': {'type': 'TestLoop'},
        'val_dataloader': loader,
        'val_evaluator': evaluator,
        'val_cfg': {'type': 'ValLoop'},
    }


def save_checkpoint(project, seed):
    """Save a plain model with random weights."""
    torch.manual_seed(seed)
    model = MODELS.build(Config.fromfile(project.config).model)
    # Without it all queries of random weights look alike.
    model.panoptic_head.cls_embed.bias.data = torch.tensor([1.5, 0.5, -1.0])
    meta = {'dataset_meta': {'classes': CLASSES}, 'iter': 3}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, project.checkpoint)


def save_distiller(project, plain):
    """Save a distiller, with an EMA teacher and an objective, that has the plain model's weights as its student."""
    model = {
        'type': 'castkd.Distiller',
        'student': plain['model'],
        'teachers': {'ema': {'type': 'castkd.EMATeacher'}},
        'objectives': {'sup': {'type': 'castkd.Supervised'}},
    }
    hooks = [{'type': 'castkd.NoSuchHook'}]
    config = {**plain, 'model': model, 'custom_hooks': hooks, 'train_cfg': {'max_iters': 3}}
    Config(config).dump(project.distiller_config)
    distiller = MODELS.build(Config.fromfile(project.distiller_config).model)
    content = torch.load(project.checkpoint, weights_only=True)
    distiller.student.load_state_dict(content['state_dict'])
    origin = {'teachers': {'big': {'file': 'big.pth', 'sha256': '0' * 64}}}
    meta = {**content['meta'], 'castkd': origin}
    torch.save({'meta': meta, 'state_dict': distiller.state_dict()}, project.distiller_checkpoint)


def write_images(folder, names, seed):
    """Write noise images with two bright rectangles each and return their COCO annotations."""
    generator = np.random.default_rng(seed)
    content = {'images': [], 'annotations': []}
    content['categories'] = [{'id': 3 * i + 1, 'name': name} for i, name in enumerate(CLASSES)]
    for image_id, (name, (height, width)) in enumerate(zip(names, SIZES, strict=True)):
        image = generator.integers(0, 100, (height, width, 3), dtype=np.uint8)
        masks = np.zeros((2, height, width), bool)
        masks[0, 4:20, 4:24] = True
        masks[1, 24:36, 10:30] = True
        image[masks.any(0)] += 120
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), image)
        content['images'].append(
            {'id': image_id, 'file_name': name, 'width': width, 'height': height}
        )
        for index, code in enumerate(encode_masks(masks)):
            content['annotations'].append(
                {
                    'id': len(content['annotations']) + 1,
                    'image_id': image_id,
                    'category_id': 3 * index + 1,
                    'segmentation': code,
                    'bbox': coco_mask.toBbox(code).tolist(),
                    'area': int(coco_mask.area(code)),
                    'iscrowd': 0,
                }
            )
    return content
