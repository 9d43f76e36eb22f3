"""A runner that distils in milliseconds: bright squares, a network that sees them, a flipped student view."""

import itertools
import logging
from unittest import mock

import numpy as np
import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.data import Dataset

from castkd.distiller import Distiller, InstancePseudoLabeler
from castkd.objectives import PseudoLabel, Supervised
from castkd.teachers import Teacher

HEIGHT, WIDTH = 24, 40
_counter = itertools.count()


class SquareFinder(BaseModel):
    """Finds what is bright; its loss is not about that. Score and threshold are plain attributes."""

    def __init__(self, score=0.9, threshold=0.0):
        preprocessor = DetDataPreprocessor(
            mean=[100.0, 110.0, 120.0],
            std=[50.0, 60.0, 70.0],
            bgr_to_rgb=True,
            pad_size_divisor=16,
            pad_mask=True,
        )
        super().__init__(data_preprocessor=preprocessor)
        self.conv = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)
        self.score, self.threshold = score, threshold

    def extract_feat(self, inputs):
        return self.norm(self.conv(inputs))

    def loss(self, inputs, samples):
        value = self.extract_feat(inputs).square().mean() + self.conv.weight.square().sum()
        instances = sum(len(sample.gt_instances) for sample in samples)
        return {'loss_cls': value, 'loss_mask': value * instances}

    def predict(self, inputs, samples, rescale=False):
        for image, sample in zip(inputs, samples, strict=True):
            height, width = sample.img_shape[:2]
            mask = image.mean(0)[:height, :width] > self.threshold
            masks = mask[None] if mask.any() else mask.new_zeros((0, height, width))
            sample.pred_instances = InstanceData(
                labels=torch.zeros(len(masks), dtype=torch.long),
                scores=torch.full((len(masks),), self.score),
                bboxes=torch.zeros(len(masks), 4),
                masks=masks,
            )
        return samples

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return self.extract_feat(inputs)


class Squares(Dataset):
    """Images with one bright square; in training three views of each, the student's one flipped.

    ``content`` of the labels: ``masks``, ``late masks`` (in pixels of the image before it was resized), ``boxes``, or
    ``nothing`` (no object).
    """

    def __init__(self, training, content='masks', split=None):
        self.training, self.content = training, content
        if split is not None:
            self.split = split
        self.metainfo = {'classes': ('square',), 'palette': [(220, 20, 60)]}

    def __len__(self):
        return 8

    def __getitem__(self, index):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[4:14, 3 + index : 15 + index] = 1
        image = np.full((HEIGHT, WIDTH, 3), (10, 40, 70), np.uint8)
        image[mask.astype(bool)] = (230, 210, 190)
        if not self.training:
            return self._pack(image, mask)
        flip = np.array([[-1, 0, WIDTH], [0, 1, 0], [0, 0, 1]], np.float32)
        views = {
            'sup': self._pack(image, mask),
            'unsup_teacher': self._pack(image, None),
            'unsup_student': self._pack(image[:, ::-1], None, flip),
        }
        return {
            key: {view: packed[key] for view, packed in views.items()}
            for key in ('inputs', 'data_samples')
        }

    def _pack(self, image, mask, homography=None):
        sample = DetDataSample()
        sample.set_metainfo(
            {
                'img_shape': (HEIGHT, WIDTH),
                'ori_shape': (2 * HEIGHT, 2 * WIDTH),
                'homography_matrix': np.eye(3, dtype=np.float32)
                if homography is None
                else homography,
            }
        )
        instances = InstanceData()
        if mask is not None:
            rows, columns = np.nonzero(mask)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            instances.labels = torch.zeros(1, dtype=torch.long)
            instances.bboxes = torch.tensor([box], dtype=torch.float32)
            if self.content != 'boxes':
                instances.masks = BitmapMasks(mask[None], HEIGHT, WIDTH)
            if self.content == 'late masks':
                instances.masks = instances.masks.resize((2 * HEIGHT, 2 * WIDTH))
            if self.content == 'nothing':
                instances = instances[:0]
        sample.gt_instances = instances
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        return {'inputs': inputs, 'data_samples': sample}


class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {'images': np.float32(len(results)), 'table': 'a | b'}


def toy_distiller(teacher=None, objectives=None, score_thr=0.3):
    """Return a distiller with the teacher ``expert``, which labels within the step."""
    torch.manual_seed(0)
    return Distiller(
        student=SquareFinder(),
        teachers={'expert': teacher or Teacher(SquareFinder())},
        objectives=objectives
        or {'sup': Supervised(), 'unsup': PseudoLabel('unsup_student', teacher='expert')},
        pseudo_labeler=InstancePseudoLabeler(score_thr),
    )


def toy_runner(work_dir, distiller, hooks=(), max_iters=3, val=None, train=None, **options):
    """Return an mmengine runner over :class:`Squares` with ``hooks`` as its custom hooks."""
    val = Squares(training=False) if val is None else val
    with_val = {
        'val_dataloader': {
            'dataset': val,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'batch_size': 2,
        },
        'val_evaluator': Evaluator(Count()),
        'val_cfg': {'type': 'ValLoop'},
    }
    # Asking the machine for its compilers takes a second.
    with mock.patch('mmengine.runner.runner.collect_env', dict):
        number = next(_counter)
        return Runner(
            model=distiller,
            work_dir=str(work_dir),
            train_dataloader={
                'dataset': Squares(training=True) if train is None else train,
                'sampler': {'type': 'InfiniteSampler', 'shuffle': False},
                'batch_size': 2,
            },
            train_cfg={
                'type': 'IterBasedTrainLoop',
                'max_iters': max_iters,
                'val_interval': max_iters,
            },
            optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
            default_hooks={
                'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 1},
                'logger': {'type': 'LoggerHook', 'interval': 1, 'log_metric_by_epoch': False},
            },
            custom_hooks=list(hooks),
            visualizer={
                'type': 'Visualizer',
                'vis_backends': [{'type': 'LocalVisBackend'}],
                'name': f'toy_{number}',
            },
            log_processor={'by_epoch': False},
            default_scope='mmdet',
            randomness={'seed': 0},
            experiment_name=f'toy_{number}',
            **({} if val is False else with_val),
            **options,
        )


class At(Hook):
    """Calls ``action(runner)`` after iteration ``step``, before the checkpoint is written."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == self.step:
            self.action(runner)


class KilledError(Exception):
    """The process died."""


def kill(runner):
    raise KilledError


def log_of(runner, level='WARNING'):
    """Return the list that receives the texts that the runner logs at ``level`` from now on."""
    texts = []
    handler = logging.Handler(level)
    handler.emit = lambda record: record.levelname == level and texts.append(record.getMessage())
    runner.logger.addHandler(handler)
    return texts
