"""Batches and distillers of tiny segmentors on unlabelled pairs, for tests of the methods that mix images."""

import torch

from castkd.distiller import Distiller
from castkd.registry import build_model
from tests.builders import make_map_sample, tiny_segmentor

CLASSES = 3
CUTMIX = dict(unsup_mixed=dict(type='castkd.CutMix', source='unsup_teacher'))


def semantic_batch(labeled=2, unlabeled=4, size=(32, 32), seed=0):
    """Return inputs and data samples: labelled images with 255 in a corner, unlabelled ones, all different."""
    generator = torch.Generator().manual_seed(seed)

    def images(count):
        return torch.randn(count, 3, *size, generator=generator)

    labels = torch.randint(0, CLASSES, (labeled, *size), generator=generator)
    labels[:, :8, :8] = 255
    inputs = {'sup': images(labeled), 'unsup_teacher': images(unlabeled)}
    nothing = torch.full(size, 255)
    samples = {
        'sup': [make_map_sample(item, img_path=f'l{i}.png') for i, item in enumerate(labels)],
        'unsup_teacher': [make_map_sample(nothing, img_path=f'u{i}.png') for i in range(unlabeled)],
    }
    return inputs, samples


def teacher_file(path, seed, **options):
    """Write the checkpoint of a random segmentor; return the config of a frozen teacher that reads it."""
    torch.manual_seed(seed)
    config = tiny_segmentor(CLASSES)
    config['decode_head'].update(options)
    network = build_model(config)
    network.init_weights()
    torch.save({'state_dict': network.state_dict(), 'meta': {}}, path)
    return dict(type='castkd.FrozenTeacher', model=config, checkpoint=str(path))


def make_distiller(seed=0, **options):
    """Return a distiller of a tiny segmentor with mixed views."""
    torch.manual_seed(seed)
    distiller = Distiller(tiny_segmentor(CLASSES), views=CUTMIX, **options)
    distiller.init_weights()
    return distiller


def run_step(distiller, batch, seed=7):
    """Run one training step with fixed random numbers; return the losses by name."""
    torch.manual_seed(seed)
    return distiller(*batch, mode='loss')
