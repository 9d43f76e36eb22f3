"""The distiller beside mmdet's own semi-supervised detectors: images per second and peak memory.

    python benchmarks/semi_supervised_detector.py --out detector.json

All train the same Faster R-CNN (mmdet's, small, with a ResNet-18) and a teacher that is its moving average,
on the same labelled and unlabelled images in the same views (weak for the teacher, mirrored for the
student), from the collated batch to the optimiser's step and the teacher's update. ``SemiBaseDetector``
does the same work as the distiller here; ``SoftTeacher`` scores jittered boxes and the student's
proposals with the teacher beside that. The teacher's best boxes all become pseudo-labels, so that
every form learns from as many. Steps of all forms are timed in turn; medians over ``--repeat`` rounds,
ratios within a round. The peak of the resident memory, above what was held before the first of two
steps, is that of a process with this form alone (on a GPU: of the allocated memory).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from mmdet.engine.hooks import MeanTeacherHook
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import (
    PeakMemory,
    discs,
    make_parser,
    quiet_logs,
    run_apart,
    seconds,
    write_results,
)
from castkd.apis.command_line import run_tool
from castkd.registry import build_model

OURS, BASE, SOFT = 'castkd', 'SemiBaseDetector', 'SoftTeacher'
FORMS = (OURS, BASE, SOFT)
OBJECTS = 10  # per labelled image, and pseudo-labels per unlabelled image
CHANNELS = 64  # of the feature pyramid and its heads
PROPOSALS = 128  # per image
MOMENTUM = 0.001  # share of the student in a teacher's update
# Weights that hardly move: every step is the same work.
LEARNING_RATE = 1e-6
Batch = dict[str, dict[str, list]]
Settings = tuple[int, int, int, str]  # labelled and unlabelled images, side of an image, device


def faster_rcnn() -> ConfigDict:
    """Return mmdet's Faster R-CNN with a ResNet-18 from random weights, for one class and for a CPU."""
    config = get_config('mmdet::_base_/models/faster-rcnn_r50_fpn.py').model
    config.backbone.update(depth=18, frozen_stages=-1, norm_eval=False, init_cfg=None)
    config.neck.update(in_channels=[64, 128, 256, 512], out_channels=CHANNELS)
    config.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    config.roi_head.bbox_roi_extractor.out_channels = CHANNELS
    config.roi_head.bbox_head.update(num_classes=1, in_channels=CHANNELS, fc_out_channels=256)
    config.train_cfg.rpn_proposal.max_per_img = config.test_cfg.rpn.max_per_img = PROPOSALS
    config.train_cfg.rcnn.sampler.num = PROPOSALS
    config.test_cfg.rcnn.update(score_thr=0.0, max_per_img=OBJECTS)
    return ConfigDict(_scope_='mmdet', **config)


def build(form: str) -> BaseModel:
    """Return one form with seeded random weights, the same in teacher and student and in all forms."""
    quiet_logs()
    torch.manual_seed(0)
    detector = faster_rcnn()
    network = build_model(detector)
    network.init_weights()
    weights = network.state_dict()
    if form == OURS:
        model = build_model(
            {
                'type': 'castkd.Distiller',
                'student': detector,
                'teachers': {'ema': {'type': 'castkd.EMATeacher', 'decay': 1 - MOMENTUM}},
                'pseudo_labeler': {'type': 'castkd.InstancePseudoLabeler', 'score_thr': 0.0},
                'objectives': {
                    'sup': {'type': 'castkd.Supervised'},
                    'unsup': {'type': 'castkd.PseudoLabel', 'teacher': 'ema'},
                },
            }
        )
        model.student.load_state_dict(weights)
        model.teachers['ema'].connect(model.student, None)
        return model.train()
    thresholds = dict.fromkeys(
        ('cls_pseudo_thr', 'rpn_pseudo_thr', 'pseudo_label_initial_score_thr'), 0.0
    )
    model = build_model(
        {
            '_scope_': 'mmdet',
            'type': form,
            'detector': detector,
            'data_preprocessor': {
                'type': 'MultiBranchDataPreprocessor',
                'data_preprocessor': detector.data_preprocessor,
            },
            'semi_train_cfg': {
                **thresholds,
                'reg_pseudo_thr': float('inf'),
                'jitter_times': 10,
                'jitter_scale': 0.06,
            },
            'semi_test_cfg': {},
        }
    )
    model.student.load_state_dict(weights)
    model.teacher.load_state_dict(weights)
    return model.train()


def make_batch(labeled: int, unlabeled: int, size: int) -> Batch:
    """Return a collated batch: uint8 images (3, size, size) and data samples per view."""
    rng = np.random.default_rng(0)
    batch: Batch = {'inputs': {}, 'data_samples': {}}

    def add(view: str, image: np.ndarray, boxes: np.ndarray, mirrored: bool) -> None:
        pixels = np.ascontiguousarray(image[:, :, ::-1]) if mirrored else image
        batch['inputs'].setdefault(view, []).append(torch.from_numpy(pixels))
        sample = make_sample(size, boxes, mirrored)
        batch['data_samples'].setdefault(view, []).append(sample)

    for index in range(labeled + unlabeled):
        image = rng.integers(0, 256, (3, size, size), dtype=np.uint8)
        if index < labeled:
            add('sup', image, discs(rng, size, OBJECTS)[1], mirrored=False)
        else:
            nothing = np.zeros((0, 4), dtype=np.float32)
            add('unsup_teacher', image, nothing, mirrored=False)
            add('unsup_student', image, nothing, mirrored=True)
    return batch


def make_sample(size: int, boxes: np.ndarray, mirrored: bool) -> DetDataSample:
    """Return a data sample of the first class with ``boxes`` (n, 4)."""
    matrix = np.diag([-1, 1, 1]) if mirrored else np.eye(3)
    matrix[0, 2] = size if mirrored else 0
    shape = (size, size)
    metainfo = {'img_shape': shape, 'ori_shape': shape, 'scale_factor': (1.0, 1.0)}
    sample = DetDataSample(metainfo={**metainfo, 'homography_matrix': matrix.astype(np.float32)})
    labels = torch.zeros(len(boxes), dtype=torch.long)
    sample.gt_instances = InstanceData(labels=labels, bboxes=torch.from_numpy(boxes))
    return sample


def make_step(model: BaseModel) -> Callable[[Batch], Any]:
    """Return what trains on one batch, the update of the teacher included."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = OptimWrapper(torch.optim.SGD(trainable, LEARNING_RATE, momentum=0.9))
    if not hasattr(model, 'teacher'):
        return partial(model.train_step, optim_wrapper=optimizer)
    follow = MeanTeacherHook(MOMENTUM, skip_buffer=False).momentum_update

    def step(batch: Batch) -> None:
        model.train_step(batch, optim_wrapper=optimizer)
        follow(model, MOMENTUM)

    return step


def start(form: str, device: str) -> Callable[[Batch], Any]:
    """Build a form and return its step."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return make_step(build(form).to(device))


def measure_times(settings: Settings, repeat: int) -> dict[str, list[float]]:
    """Return seconds per step of every form, which take turns, after a step of each that is not counted."""
    *sizes, device = settings
    steps = {form: start(form, device) for form in FORMS}
    found: dict[str, list[float]] = {form: [] for form in FORMS}
    for turn in range(repeat + 1):
        # A form is not always timed behind the same one, whose memory it takes over.
        first = turn % len(FORMS)
        for form in FORMS[first:] + FORMS[:first]:
            # Anew each time: mmdet writes its pseudo-labels into the batch.
            step = partial(steps[form], make_batch(*sizes))
            found[form].append(seconds(step, device))
    return {form: times[1:] for form, times in found.items()}


def measure_peak(form: str, settings: Settings) -> float:
    """Return the peak of memory in two steps of one form in this process, in MiB."""
    *sizes, device = settings
    step = start(form, device)
    with PeakMemory(device) as peak:
        for _ in range(2):
            step(make_batch(*sizes))
    return peak.mib


def measure_all(options: argparse.Namespace) -> list[dict]:
    """Measure all forms; the ratios are the distiller's throughput and peak by the form's."""
    settings = (options.labeled, options.unlabeled, options.size, options.device)
    peaks = {form: run_apart(measure_peak, form, settings) for form in FORMS}
    times = measure_times(settings, options.repeat)
    return [
        {
            'form': form,
            'images_per_second': (options.labeled + options.unlabeled) / median(times[form]),
            'peak_mib': peaks[form],
            'throughput_ratio': median(
                theirs / ours for theirs, ours in zip(times[form], times[OURS], strict=True)
            ),
            'memory_ratio': peaks[OURS] / peaks[form],
        }
        for form in FORMS
    ]


def show(rows: list[dict], console: Console) -> None:
    """Print the measurements as a table."""
    table = Table('form', 'images/s', 'peak MiB', 'castkd: images/s by its', 'castkd: peak by its')
    for row in rows:
        table.add_row(
            row['form'],
            f'{row["images_per_second"]:.2f}',
            f'{row["peak_mib"]:.0f}',
            f'{row["throughput_ratio"]:.2f}',
            f'{row["memory_ratio"]:.2f}',
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = make_parser(__doc__, repeat=10)
    parser.add_argument('--labeled', type=int, default=1, help='labelled images (default: 1)')
    parser.add_argument('--unlabeled', type=int, default=4, help='unlabelled images (default: 4)')
    parser.add_argument('--size', type=int, default=256, help='side of an image (default: 256)')
    options = parser.parse_args(arguments)
    rows = measure_all(options)
    show(rows, Console())
    if options.out:
        write_results(options.out, {'rows': rows}, options)


if __name__ == '__main__':
    sys.exit(run_tool(main))
