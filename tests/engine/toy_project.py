"""Config files of a network with one weight, for trainings of a few milliseconds."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn


@MODELS.register_module(force=True)
class ToyNet(BaseModel):
    """y = w x + b."""

    def __init__(self, width=1):
        super().__init__()
        self.linear = nn.Linear(1, width)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        predicted = self.linear(inputs).mean(-1)
        if mode == 'loss':
            return {'loss': (predicted - data_samples).square().mean()}
        return [predicted] if mode == 'predict' else predicted


@DATASETS.register_module(force=True)
class ToyData(BaseDataset):
    """Points on y = 2 x."""

    METAINFO = {'classes': ('point',)}

    def __init__(self, size=8, **options):
        self.size = size
        super().__init__(**options)

    def load_data_list(self):
        return [{'x': index / self.size} for index in range(self.size)]

    def prepare_data(self, index):
        x = self.get_data_info(index)['x']
        return {'inputs': torch.tensor([x]), 'data_samples': torch.tensor(2 * x)}


@METRICS.register_module(force=True)
class ToyMetric(BaseMetric):
    """Mean prediction."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results += [float(item.mean()) for item in data_samples]

    def compute_metrics(self, results):
        return {'mIoU': sum(results) / len(results)}


CONFIG = """
default_scope = 'mmengine'
model = dict(type='ToyNet')
train_dataloader = dict(
    batch_size=2,
    dataset=dict(type='ToyData'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
)
val_dataloader = dict(
    batch_size=2,
    dataset=dict(type='ToyData', size=4),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
train_cfg = dict(by_epoch=False, max_iters=4, val_interval=100)
val_cfg = dict()
val_evaluator = dict(type='ToyMetric')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
"""

RECIPE = """
seed = 3
lr = 0.1
steps = 4
options = {'randomness.seed': '{seed}', 'optim_wrapper.optimizer.lr': '{lr}', 'train_cfg.max_iters': '{steps}'}
recipe = [
    dict(name='first', config='stage.py', cfg_options=options),
    dict(
        name='second',
        config='stage.py',
        cfg_options={'load_from': '{first.checkpoint}', 'randomness.seed': '{seed}'},
    ),
]
"""


def write_project(folder: Path, recipe: str = RECIPE, config: str = CONFIG) -> Path:
    """Write ``stage.py`` and ``recipe.py`` into a folder; return the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'stage.py').write_text(config)
    (folder / 'recipe.py').write_text(recipe)
    return folder / 'recipe.py'
