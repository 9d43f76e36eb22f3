"""Two processes train together without a search for unused parameters."""

import copy
import os

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from benchmarks.distillation_step import build_distiller
from tests.builders import make_batch, tiny_segmentor
from tests.detectors import tiny_detector
from tests.distiller.test_distiller import CAST, OBJECTIVES, VIEWS, build
from tests.method_stages import semantic_stage
from tests.segmentation import CLASSES, make_distiller, semantic_batch

GUIDED = dict(
    objectives=dict(
        sup=dict(type='castkd.Supervised'),
        unsup=dict(type='castkd.PseudoLabel', teacher='ema', weight=2.0),
    ),
    teachers=dict(ema=dict(type='castkd.EMATeacher', decay=0.9)),
    pseudo_labeler=dict(type='castkd.QueryPseudoLabeler', score_thr=0.0, min_soft_area=0.0),
)
GID = dict(
    type='castkd.GeneralInstanceDistillation',
    teacher='ema',
    adapter=dict(type='castkd.ConvConnector', in_channels=16, out_channels=16, identity=True),
    selection=dict(min_size=4),
    unlabeled_views=['unsup_teacher'],
    unlabeled_weight=dict(type='Window', value=1.0, begin=1),
)
METHODS = {
    'cast': dict(objectives=OBJECTIVES),
    'cast, labels only': dict(
        objectives=dict(
            sup=dict(type='castkd.Supervised'),
            cast={**CAST, 'views': [('sup', 'sup_strong')]},
        )
    ),
    'cast, contrast from the second step on': dict(
        objectives={
            **OBJECTIVES,
            'cast': {**CAST, 'weight': dict(type='Window', value=0.1, begin=1)},
        }
    ),
    'guided distillation': GUIDED,
    'gid, unlabelled images from the second step on': dict(
        student=tiny_detector('mask_rcnn'),
        objectives=dict(sup=dict(type='castkd.Supervised'), gid=GID),
        teachers=dict(ema=dict(type='castkd.EMATeacher', decay=0.9)),
    ),
}
SUP = dict(type='castkd.Supervised')
CPS = dict(type='castkd.CrossPseudoSupervision', peer='second')
LATER = dict(type='Window', value=1.0, begin=1)
# Segmentors, with a peer that is trained beside the student.
SEMANTIC = {
    'cross pseudo supervision': dict(sup=SUP, sup_second=dict(SUP, network='second'), cps=CPS),
    'cross pseudo supervision, the peer from the second step on': dict(
        sup=SUP, sup_second=dict(SUP, network='second', weight=LATER), cps=dict(CPS, weight=LATER)
    ),
}
# Shipped methods of segmentors: two frozen teachers, two runs on one view, a teacher that reads labels, connectors.
SHIPPED = ('mgd', 'lad_teacher', 'lad_student', 'transkd_gl', 'transkd_ea')
ALL = [*METHODS, *SEMANTIC, *SHIPPED]


def make(method):
    """Return the distiller of a method, always the same."""
    if method in METHODS:
        return build(**copy.deepcopy(METHODS[method]))
    if method in SHIPPED:
        stage = semantic_stage(method)
        if method.startswith('transkd'):
            # One of two bottlenecks is idle, another one in a process with a single image.
            stage.model.objectives.transkd.fusion.bottleneck_norm = 'switch'
        return build_distiller(stage, online=False)
    return make_distiller(
        peers=dict(second=tiny_segmentor(CLASSES)), objectives=copy.deepcopy(SEMANTIC[method])
    )


def draw(method, rank, step):
    """Return a batch for a method, another one for each process and step."""
    seed = 10 * step + rank
    if method in METHODS:
        return make_batch(VIEWS, seed=seed)
    if method in SHIPPED:
        alone = method.startswith('transkd') and rank == 0 and step == 1
        return semantic_batch(labeled=1 if alone else 2, size=(64, 96), seed=seed)
    return semantic_batch(seed=seed)


def train_all(rank, folder):
    """Train every method, one after the other in the same two processes; write what was learned."""
    os.environ.update(MASTER_ADDR='127.0.0.1', RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    store = distributed.FileStore(f'{folder}/store', 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    learned = {method: train(rank, method) for method in ALL}
    torch.save(learned, f'{folder}/{rank}.pt')
    distributed.destroy_process_group()


def train(rank, method):
    """Take three steps on other images in each process; return what was learned."""
    distiller = make(method)
    model = DistributedDataParallel(distiller)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for step in range(3):
        inputs, samples = draw(method, rank, step)
        if rank == 0 and step == 1 and method in METHODS:
            # One process without any pseudo-label must not leave the other waiting.
            for sample in samples['unsup_teacher']:
                sample.gt_instances = sample.gt_instances[:0]
                # Nor one in whose images nothing is selected, all boxes being cut off.
                if method.startswith('gid'):
                    sample.set_metainfo(dict(img_shape=(4, 4)))
        loss, _ = distiller.parse_losses(model(inputs, samples, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach() for name, value in distiller.named_parameters()}


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    """Return, for both processes, the weights per method. Starting processes takes longer than training in them."""
    folder = tmp_path_factory.mktemp('ddp')
    mp.spawn(train_all, (str(folder),), nprocs=2)
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in (0, 1)]


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize('method', ALL)
def test_two_processes_learn_the_same_weights(method, learned):
    first, second = (weights[method] for weights in learned)
    start = dict(make(method).named_parameters())
    assert first.keys() == second.keys() == start.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)
    learnt = {
        name.split('.')[0] for name, value in first.items() if not torch.equal(value, start[name])
    }
    assert learnt == {name.split('.')[0] for name in start}
