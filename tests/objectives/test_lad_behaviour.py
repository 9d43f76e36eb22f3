"""LAD's teacher after training: it needs the layout of the labels, and does not care for their values.

An image shows the colours of its two classes at its left and right edge, and nothing of where one ends: that is in the
label map alone.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from castkd.architectures import label_assisted, resnet_segmentor
from castkd.distiller import Distiller
from tests.builders import make_map_sample

METHOD = Path(__file__).parents[2] / 'configs' / '_base_' / 'methods' / 'lad_teacher.py'
CLASSES, SIDE, EDGE, STEPS = 3, 48, 8, 600


def draw(count):
    """Return images (count, 3, side, side) and label maps whose border lies in the middle half."""
    border = torch.randint(SIDE // 4, 3 * SIDE // 4 + 1, (count, 1))
    pairs = torch.rand(count, CLASSES).argsort(1)[:, :2]
    maps = pairs.gather(1, (torch.arange(SIDE) >= border).long())[:, None].expand(-1, SIDE, -1)
    images = 2 * F.one_hot(maps, 3).permute(0, 3, 1, 2).float()
    images[..., EDGE:-EDGE] = 0
    return images + 0.3 * torch.randn(images.shape), maps


def samples_of(maps):
    return [make_map_sample(item) for item in maps]


@pytest.fixture(scope='module')
def teacher():
    """Train a small network as the shipped method has it; return it in eval mode, with values drawn anew."""
    torch.manual_seed(0)
    small = dict(base_channels=8, channels=16, num_convs=1, auxiliary=False, dropout=0.0)
    network = label_assisted(resnet_segmentor(CLASSES, **small), mode='random')
    objectives = Config.fromfile(METHOD).model.objectives.to_dict()
    distiller = Distiller(student=network, objectives=objectives)
    distiller.init_weights()
    optimizer = torch.optim.AdamW(distiller.train().parameters(), lr=3e-3)
    for _ in range(STEPS):
        images, maps = draw(8)
        optimizer.zero_grad()
        losses = distiller({'sup': images}, {'sup': samples_of(maps)}, mode='loss')
        distiller.parse_losses(losses)[0].backward()
        optimizer.step()
    return distiller.student.eval()


@pytest.mark.slow
def test_layout_counts_and_values_do_not(teacher):
    torch.manual_seed(1)
    images, maps = draw(64)

    def predict(labels):
        with torch.no_grad():
            logits = teacher(images, samples_of(labels), mode='tensor')
        found = F.interpolate(logits, size=(SIDE, SIDE), mode='bilinear').argmax(1)
        # Where the border may lie; beside it the image tells the class.
        return found[..., SIDE // 4 : -SIDE // 4]

    truth = maps[..., SIDE // 4 : -SIDE // 4]
    first, again, wrong = predict(maps), predict(maps), predict(maps.roll(1, 0))
    right = (first == truth).float().mean()
    assert right > 0.85
    assert (first == again).float().mean() > 0.85
    assert (wrong == truth).float().mean() < right - 0.1
