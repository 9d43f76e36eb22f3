"""Two processes train together without a search for unused parameters (L9)."""

import copy
import os

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tests.builders import make_batch
from tests.distiller.test_distiller import CAST, OBJECTIVES, VIEWS, build

GUIDED = dict(
    objectives=dict(
        sup=dict(type='castkd.Supervised'),
        unsup=dict(type='castkd.PseudoLabel', teacher='ema', weight=2.0),
    ),
    teachers=dict(ema=dict(type='castkd.EMATeacher', decay=0.9)),
    pseudo_labeler=dict(type='castkd.QueryPseudoLabeler', score_thr=0.0, min_soft_area=0.0),
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
}


def train(rank, options, folder):
    """Take three steps on other images in each process; write what was learned."""
    os.environ.update(MASTER_ADDR='127.0.0.1', RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    store = distributed.FileStore(f'{folder}/store', 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    distiller = build(**copy.deepcopy(options))
    model = DistributedDataParallel(distiller)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for step in range(3):
        inputs, samples = make_batch(VIEWS, seed=10 * step + rank)
        if rank == 0 and step == 1:
            # One process without any pseudo-label must not leave the other waiting.
            for sample in samples['unsup_teacher']:
                sample.gt_instances = sample.gt_instances[:0]
        loss, _ = distiller.parse_losses(model(inputs, samples, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    parameters = {name: value.detach() for name, value in distiller.named_parameters()}
    torch.save(parameters, f'{folder}/{rank}.pt')
    distributed.destroy_process_group()


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_two_processes_learn_the_same_weights(method, tmp_path):
    mp.spawn(train, (METHODS[method], str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f'{rank}.pt', weights_only=True) for rank in (0, 1))
    start = dict(build(**copy.deepcopy(METHODS[method])).named_parameters())
    assert first.keys() == second.keys() == start.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)
    assert any(not torch.equal(value, start[name]) for name, value in first.items())
