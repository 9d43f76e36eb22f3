"""Memory of the pixel-wise contrastive loss: chunk x pool, one chunk's graph at a time."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from castkd.losses import InstancePixelContrast
from tests.losses.pixel_cases import ALL, random_case


class LargestTensor(TorchDispatchMode):
    """Records the size of the largest result of any operation."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        results = result if isinstance(result, (tuple, list)) else [result]
        sizes = [item.numel() for item in results if torch.is_tensor(item)]
        self.numel = max([self.numel, *sizes])
        return result


class SavedForBackward:
    """Counts the numbers that graphs keep for their backward pass."""

    def __init__(self):
        self.alive = weakref.WeakSet()
        self.peak = 0

    def pack(self, tensor):
        class Kept:
            value = tensor

        kept = Kept()
        self.alive.add(kept)
        self.peak = max(self.peak, self.now())
        return kept

    def now(self):
        return sum(kept.value.numel() for kept in self.alive)

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self.pack, lambda kept: kept.value)


@pytest.mark.parametrize('chunk_size', [32, 64])
@pytest.mark.parametrize('draws', [20, ALL])
@pytest.mark.parametrize('cross_image_cue', [None, 'class'])
def test_memory_grows_with_chunk_times_pool(chunk_size, draws, cross_image_cue):
    inputs = random_case(size=(16, 24), width=8, queries=4)
    inputs['instance_ids'] = torch.randint(-1, 3, (2, 16, 24))
    inputs['anchor'].requires_grad_()
    pool = 2 * 16 * 24
    loss = InstancePixelContrast(draws, chunk_size=chunk_size, cross_image_cue=cross_image_cue)
    saved, largest = SavedForBackward(), LargestTensor()
    with largest, saved.hooks():
        value = loss(**inputs)
        after_forward = saved.now()
        value.backward()
    assert largest.numel == chunk_size * pool
    assert saved.peak < 3 * chunk_size * pool + 8 * 8 * pool
    assert after_forward < 8 * 8 * pool
