"""A semi-supervised training of milliseconds that ``tools/train.py`` runs: config, images, labels and a teacher."""

import json

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from castkd.datasets.splits import draw_split
from tests.datasets.small_coco import coco, folder, names, write_annotations, write_images
from tests.hooks.toy import SquareFinder
from tools import train

LABELED = draw_split(names(), 0.5, seed=0).labeled
FIRST = LABELED[0]


class Project:
    """Twelve images, half of them labelled, two others for validation, a teacher's file and a config."""

    def __init__(self, root):
        self.root = root
        self.options = []
        MODELS.register_module(module=SquareFinder, force=True)
        write_images(root)
        for name in ('0.png', '1.png'):
            (root / 'val').mkdir(exist_ok=True)
            cv2.imwrite(str(root / 'val' / name), np.zeros((24, 32, 3), np.uint8))
        write_annotations(root / 'val.json', ['0.png', '1.png'], ['0.png'])
        self.save_network('teacher.pth', meta={'dataset_meta': {'classes': ('thing',)}})
        Config(self.config()).dump(root / 'stage.py')

    def save_network(self, name, **content):
        torch.save({'state_dict': SquareFinder().state_dict(), **content}, self.root / name)

    def config(self):
        root, hook = self.root, {'by_epoch': False, 'interval': 1}
        load = {'type': 'castkd.LoadImage'}
        labels = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
        keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'homography_matrix')
        pack = {'type': 'PackDetInputs', 'meta_keys': keys}
        views = {'type': 'MultiBranch', 'branch_field': ['sup', 'unsup']}
        sup = [load, labels, {**views, 'sup': [pack]}]
        unsup = [load, {**views, 'unsup': [pack]}]
        val = coco(
            root,
            'val.json',
            data_prefix={'img': 'val'},
            test_mode=True,
            pipeline=[load, labels, pack],
        )
        teacher = {
            'type': 'castkd.FrozenTeacher',
            'model': {'type': 'SquareFinder'},
            'checkpoint': str(root / 'teacher.pth'),
        }
        unsup_objective = {'view': 'unsup', 'teacher': 'big', 'teacher_view': 'unsup'}
        return {
            'default_scope': 'mmdet',
            'model': {
                'type': 'castkd.Distiller',
                'student': {'type': 'SquareFinder'},
                'teachers': {'big': teacher},
                'pseudo_labeler': {'type': 'castkd.InstancePseudoLabeler'},
                'objectives': {
                    'sup': {'type': 'castkd.Supervised'},
                    'unsup': {'type': 'castkd.PseudoLabel', **unsup_objective},
                },
            },
            'train_dataloader': {
                'batch_size': 2,
                'num_workers': 0,
                'sampler': {'type': 'DefaultSampler'},
                'batch_sampler': {
                    'type': 'castkd.RatioBatchSampler',
                    'counts': {'labeled': 1, 'unlabeled': 1},
                },
                'dataset': {
                    'type': 'castkd.SourceDataset',
                    'split': {'fraction': 0.5, 'seed': 0},
                    'sources': {
                        'labeled': coco(root, pipeline=sup),
                        'unlabeled': folder(root, pipeline=unsup),
                    },
                },
            },
            'train_cfg': {'type': 'castkd.ResumableIterLoop', 'max_iters': 3, 'val_interval': 9},
            'val_dataloader': {
                'batch_size': 1,
                'dataset': val,
                'sampler': {'type': 'DefaultSampler'},
            },
            'val_cfg': {},
            'val_evaluator': {
                'type': 'CocoMetric',
                'metric': 'segm',
                'ann_file': str(root / 'val.json'),
            },
            'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.01}},
            'default_hooks': {'checkpoint': {'type': 'CheckpointHook', **hook}},
            'log_processor': {'by_epoch': False},
        }

    @property
    def work_dir(self):
        return self.root / 'work'

    def train(self, *arguments):
        """Call the command with the options; return its status."""
        options = ['--cfg-options', *self.options] if self.options else []
        command = [self.root / 'stage.py', '--work-dir', self.work_dir, *arguments, *options]
        return train.main([*map(str, command)])

    def edit(self, file, **values):
        """Change the annotation of the first labelled image, or of the first image."""
        content = json.loads((self.root / file).read_text())
        first = names().index(FIRST) if file == 'train.json' else 0
        content['annotations'][first].update(values)
        (self.root / file).write_text(json.dumps(content))
