"""Stage configs of shipped methods with tiny networks."""

import copy
from pathlib import Path

from mmengine.config import Config

from castkd.architectures import (
    deeplabv3plus,
    label_assisted,
    resnet_segmentor,
    segformer,
    stage_channels,
)

METHODS = Path(__file__).parents[1] / 'configs' / '_base_' / 'methods'
CLASSES = ('a', 'b', 'c')
FCN = resnet_segmentor(3, 'fcn', base_channels=8, channels=8, num_convs=1)
DEEPLAB = deeplabv3plus(3, 'resnet18', width=0.125, channels=8)
SMALL, BIG = (segformer(3, embed_dims=width, depths=(1, 1, 1, 1), channels=8) for width in (8, 16))
TRANSKD = dict(
    student_channels=stage_channels(8),
    teacher_channels=stage_channels(16),
    fusion=dict(mid_channels=8, bottleneck_norm='none'),
)
# Shipped method, its student, its teachers, and options of the objective that the networks ask for.
SEMANTIC = {
    'cps': (DEEPLAB, {}, {}),
    'mgd': (DEEPLAB, dict(deeper=DEEPLAB, wider=DEEPLAB), {}),
    'lad_teacher': (label_assisted(FCN), {}, {}),
    'lad_student': (FCN, dict(twin=label_assisted(FCN)), {}),
    'transkd_gl': (SMALL, dict(big=BIG), dict(transkd=TRANSKD)),
    'transkd_ea': (SMALL, dict(big=BIG), dict(transkd=TRANSKD)),
}


def method_stage(method, student, teachers, objectives):
    """Return a stage config of a shipped method: two labelled and four unlabelled images of 64 x 96 a step.

    Args:
        method: Name of a file of configs/_base_/methods.
        student: Config of the network that is trained; of cross pseudo supervision both are.
        teachers: Config of the network per teacher.
        objectives: Options per objective.
    """
    config = Config.fromfile(METHODS / f'{method}.py')
    options = dict(student=student, classes=CLASSES, objectives=objectives)
    options['teachers'] = {name: dict(model=network) for name, network in teachers.items()}
    if method == 'cps':
        options['peers'] = dict(second=student)
    config.merge_from_dict(dict(model=copy.deepcopy(options)))
    config.labeled_pipeline = [dict(type='castkd.RandomCrop', crop_size=(64, 96))]
    config.train_dataloader = dict(batch_sampler=dict(counts=dict(labeled=2, unlabeled=4)))
    return config


def semantic_stage(method):
    """Return the stage config of a method of :data:`SEMANTIC`."""
    return method_stage(method, *SEMANTIC[method])
