"""Fixtures that every test may use."""

import os

import pytest
import torch

# With several processes of tests, each and what it starts keeps to its share of the cores.
if 'PYTEST_XDIST_WORKER_COUNT' in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ['PYTEST_XDIST_WORKER_COUNT']))
    os.environ.setdefault('OMP_NUM_THREADS', str(threads))
    torch.set_num_threads(threads)

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=DEVICES)
def device(request):
    """Every device of this machine; the test then runs on each."""
    if request.param == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    return torch.device(request.param)


@pytest.fixture(params=DTYPES, ids=['fp32', 'fp64'])
def dtype(request):
    """Every dtype in which results are compared with numbers."""
    return request.param


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same random state."""
    torch.manual_seed(0)
