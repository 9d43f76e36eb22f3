"""A large batch, two processes and accumulated halves learn the same, but for what belongs to a process.

The points at which masks are compared are random in mmdet; here they are the same for every mask, so that halves can
be compared with wholes. Both halves hold the same number of objects: mmdet divides the class loss by the weight of a
process's own queries.
"""

import os

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.optim import build_optim_wrapper
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from tests.builders import make_batch, tiny_dinov2_mask2former
from tests.distiller.test_distiller import OBJECTIVES, VIEWS, build

pytest.importorskip('transformers')
SETS = {key: OBJECTIVES[key] for key in ('sup', 'unsup')}
CAST = {
    **OBJECTIVES,
    'cast': dict(
        type='castkd.InstanceContrast',
        projector=dict(
            type='castkd.ProjectionHead', in_channels=24, hidden_channels=8, out_channels=8
        ),
        # All negatives: nothing is drawn.
        loss=dict(type='castkd.InstancePixelContrast', num_negatives=None),
        weight=1.0,
    ),
}
METHODS = {'set losses': SETS, 'cast': CAST}
DRAW = torch.rand


def same_points(*shape, **options):
    """Stand in for ``torch.rand``: every mask has the same points."""
    shape = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    options.setdefault('generator', torch.Generator().manual_seed(7))
    return DRAW(shape[-2:], **options).expand(shape).clone()


def make(method):
    return build(METHODS[method], student=tiny_dinov2_mask2former())


def half(rank):
    return make_batch(VIEWS, size=56, seed=rank)


def whole():
    """Return the images of both processes as one batch."""
    (inputs, samples), (more, others) = half(0), half(1)
    return (
        {view: torch.cat([inputs[view], more[view]]) for view in VIEWS},
        {view: samples[view] + others[view] for view in VIEWS},
    )


def gradients(distiller, *batches, model=None):
    """Return the mean gradient of some batches per parameter."""
    distiller.zero_grad()
    for inputs, samples in batches:
        losses = (model or distiller)(inputs, samples, mode='loss')
        total, _ = distiller.parse_losses(losses)
        (total / len(batches)).backward()
    return {name: value.grad for name, value in distiller.named_parameters() if value.requires_grad}


def run_process(rank, folder):
    os.environ.update(MASTER_ADDR='127.0.0.1', RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    torch.rand = same_points
    store = distributed.FileStore(f'{folder}/store', 2)
    distributed.init_process_group('gloo', store=store, rank=rank, world_size=2)
    found = {}
    for method in METHODS:
        distiller = make(method)
        model = DistributedDataParallel(distiller)
        found[method] = gradients(distiller, half(rank), model=model)
    torch.save(found, f'{folder}/{rank}.pt')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('processes')
    mp.spawn(run_process, (str(folder),), nprocs=2)
    first, second = (torch.load(folder / f'{rank}.pt', weights_only=True) for rank in (0, 1))
    for method, values in first.items():
        for name, value in values.items():
            assert torch.equal(value, second[method][name]), name
    return first


@pytest.fixture
def fixed_points(monkeypatch):
    monkeypatch.setattr(torch, 'rand', same_points)


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert sum(value.abs().sum() for value in first.values()) > 1
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=1e-5, atol=1e-5, msg=name)


def projector(values):
    return {name: value for name, value in values.items() if 'projector' in name}


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.usefixtures('fixed_points')
def test_two_processes_are_one_with_twice_the_batch(of_two_processes):
    assert_equal(of_two_processes['set losses'], gradients(make('set losses'), whole()))


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.usefixtures('fixed_points')
def test_the_contrast_of_two_processes_is_the_mean_of_theirs(of_two_processes):
    """Negatives come from the images of a process, so one process with all images has others besides."""
    found = of_two_processes['cast']
    assert_equal(found, gradients(make('cast'), half(0), half(1)))
    alone = gradients(make('cast'), whole())
    difference = max(
        (value - alone[name]).abs().max().item() for name, value in projector(found).items()
    )
    assert difference > 1e-3


@pytest.mark.usefixtures('fixed_points')
def test_accumulated_halves_are_one_batch():
    optimizer = dict(type='SGD', lr=0.1)
    learnt = []
    for count, batches in ((1, [whole()]), (2, [half(0), half(1)])):
        distiller = make('set losses')
        wrapper = build_optim_wrapper(
            distiller, dict(type='OptimWrapper', optimizer=optimizer, accumulative_counts=count)
        )
        wrapper.initialize_count_status(distiller, 0, count)
        start = {name: value.detach().clone() for name, value in distiller.named_parameters()}
        for inputs, samples in batches:
            with wrapper.optim_context(distiller):
                total, _ = distiller.parse_losses(distiller(inputs, samples, mode='loss'))
            wrapper.update_params(total)
        learnt.append(
            {name: value.detach() - start[name] for name, value in distiller.named_parameters()}
        )
    assert_equal(*learnt)
