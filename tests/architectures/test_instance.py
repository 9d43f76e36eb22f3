"""Mask2Former with a Swin transformer: mmdet's own numbers, and a student of CAST like any other."""

from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config

from castkd.architectures import mask2former
from castkd.errors import ConfigError
from castkd.registry import build_model
from tests.builders import make_batch, tiny_mask2former

CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'mask2former'


@pytest.mark.parametrize(('size', 'letter'), [('tiny', 't'), ('small', 's')])
def test_backbone_is_that_of_mmdet(size, letter):
    file = CONFIGS / f'mask2former_swin-{letter}-p4-w7-224_8xb2-lsj-50e_coco.py'
    published = Config.fromfile(file).model
    found = mask2former(80, transformer=size, pretrained='file.pth')
    for key, value in found['backbone'].items():
        if key != 'init_cfg':
            wanted = published.backbone[key]
            assert value == (tuple(wanted) if isinstance(wanted, list) else wanted), key
    assert found['panoptic_head']['in_channels'] == published.panoptic_head.in_channels
    assert found['backbone']['init_cfg'] == dict(type='Pretrained', checkpoint='file.pth')


def test_it_is_distilled_with_the_contrast():
    torch.manual_seed(0)
    projector = dict(type='castkd.ProjectionHead', in_channels=768)
    model = build_model(
        dict(
            type='castkd.Distiller',
            student=tiny_mask2former(transformer='tiny'),
            classes=('a', 'b'),
            objectives=dict(
                sup=dict(type='castkd.Supervised'),
                cast=dict(
                    type='castkd.InstanceContrast',
                    views=[('sup', 'sup_strong')],
                    projector=projector,
                    loss=dict(type='castkd.InstancePixelContrast', num_negatives=8),
                ),
            ),
        )
    )
    total, log = model.parse_losses(model(*make_batch(['sup', 'sup_strong']), mode='loss'))
    total.backward()
    assert log['cast.loss_pixel'] > 0
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        assert torch.isfinite(value.grad).all(), name


def test_unknown_size_is_refused():
    with pytest.raises(ConfigError, match=r"mask2former: transformer must be one of .*got 'huge'"):
        mask2former(8, transformer='huge')
