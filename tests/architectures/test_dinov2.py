"""CAST's student: published size, a training step on odd image sizes, resume, mixed precision."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from castkd.architectures import dinov2_mask2former
from castkd.registry import build_model
from tests.builders import make_sample, square_masks, tiny_dinov2_mask2former

pytest.importorskip('transformers')


def count(module):
    return sum(value.numel() for value in module.parameters())


@pytest.mark.parametrize(
    ('options', 'published'),
    [
        (dict(channels=256, decoder_layers=7), 52_808_265),
        (dict(channels=256, decoder_layers=9), 55_965_769),
        (dict(channels=384, decoder_layers=9), 80_989_257),
    ],
)
def test_published_sizes(options, published):
    """T24; the published code has one residual unit more, which never trains."""
    with torch.device('meta'):
        model = build_model(dinov2_mask2former(8, norm='BN', **options))
    idle = count(model.panoptic_head.pixel_decoder.fusions[3].unit)
    assert count(model) + idle == published


def test_published_maps():
    """T23: images of 518 x 1036 pixels, which crops of 512 x 1024 are padded to, through backbone and pixel decoder."""
    with torch.device('meta'):
        model = build_model(dinov2_mask2former(8))
        maps = model.extract_feat(torch.zeros(1, 3, 518, 1036))
        mask_features, scales = model.panoptic_head.pixel_decoder(maps)
    assert [tuple(value.shape[1:]) for value in maps] == [
        (96, 148, 296),
        (192, 74, 148),
        (384, 37, 74),
        (768, 19, 37),
    ]
    assert [tuple(value.shape[1:]) for value in scales] == [
        (256, 37, 74),
        (256, 74, 148),
        (256, 148, 296),
    ]
    assert mask_features.shape == (1, 256, 296, 592)


CONTRAST = dict(
    type='castkd.InstanceContrast',
    projector=dict(type='castkd.ProjectionHead', in_channels=24, hidden_channels=8, out_channels=8),
    loss=dict(type='castkd.InstancePixelContrast', num_negatives=8),
)


def distiller(**objectives):
    return build_model(
        dict(
            type='castkd.Distiller',
            student=tiny_dinov2_mask2former(),
            classes=('car', 'person'),
            objectives=objectives
            or dict(
                sup=dict(type='castkd.Supervised'),
                unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher'),
                cast=CONTRAST,
            ),
        )
    )


def raw_batch(size=(56, 70), other=(50, 61)):
    """Return a collated batch of images whose sides are multiples of 14 and of ones whose sides are not."""
    generator = torch.Generator().manual_seed(0)
    inputs, samples = {}, {}
    for view in ('sup', 'sup_strong', 'unsup_teacher', 'unsup_student'):
        shapes = (size, other)
        inputs[view] = [
            torch.randint(0, 256, (3, *shape), generator=generator, dtype=torch.uint8)
            for shape in shapes
        ]
        masks = square_masks(80, [(4, 4, 20), (24, 30, 20)])
        samples[view] = [make_sample(masks[:, : shape[0], : shape[1]], [0, 1]) for shape in shapes]
    return {'inputs': inputs, 'data_samples': samples}


def step(model, batch):
    data = model.data_preprocessor(batch, training=True)
    return model.parse_losses(model(**data, mode='loss'))


@pytest.mark.parametrize('dtype', [None, torch.bfloat16, torch.float16])
def test_a_step_trains_every_weight(dtype):
    model = distiller()
    model.train()
    with torch.autocast('cpu', dtype=dtype, enabled=dtype is not None):
        total, log = step(model, raw_batch())
    total.backward()
    assert torch.isfinite(total)
    assert {'sup.loss_cls', 'unsup.loss_mask', 'cast.loss_pixel'} <= set(log)
    for name, value in model.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, name
            assert torch.isfinite(value.grad).all(), name
    assert model.last_step.inputs['sup'].shape == (2, 3, 56, 70)


def test_contrast_trains_the_encoder_and_its_own_map():
    """T17: nothing of the pixel decoder, the queries, or the maps that are not contrasted."""
    model = distiller(cast=CONTRAST)
    total, _ = step(model, raw_batch())
    total.backward()
    trained = {
        name.removeprefix('student.')
        for name, value in model.named_parameters()
        if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert any(name.startswith('backbone.encoder.encoder.layer.3') for name in trained)
    assert any(name.startswith('backbone.reassembly.3') for name in trained)
    assert any(name.startswith('objectives.cast.projector') for name in trained)
    assert not any(
        name.startswith(('panoptic_head', 'backbone.reassembly.0', 'backbone.reassembly.2'))
        for name in trained
    )


def test_a_checkpoint_resumes_strictly_and_goes_on_the_same():
    optimizer = dict(optimizer=dict(type='AdamW', lr=1e-3))
    first = distiller()
    wrapper = build_optim_wrapper(first, dict(type='OptimWrapper', **optimizer))
    wrapper.update_params(step(first, raw_batch())[0])
    second = distiller()
    second.load_state_dict(first.state_dict())
    again = build_optim_wrapper(second, dict(type='OptimWrapper', **optimizer))
    again.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    totals = []
    for model, optim in ((first, wrapper), (second, again)):
        torch.manual_seed(1)
        total, _ = step(model, raw_batch())
        optim.update_params(total)
        totals.append(total)
    assert torch.equal(*totals)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_predictions_are_in_pixels_of_the_image():
    model = build_model(tiny_dinov2_mask2former()).eval()
    encoder = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.init_weights()
    assert all(
        torch.equal(encoder[key], value) for key, value in model.backbone.state_dict().items()
    )
    data = {key: value['sup'] for key, value in raw_batch().items()}
    with torch.no_grad():
        first, second = model.test_step(data)
    assert first.pred_instances.masks.shape[1:] == (56, 70)
    assert second.pred_instances.masks.shape[1:] == (50, 61)


def test_rates_of_the_schedule_reach_the_embeddings():
    from mmengine.config import Config

    schedule = Config.fromfile('configs/_base_/schedules/adamw_poly.py')
    model = torch.nn.Module()
    model.student = build_model(tiny_dinov2_mask2former())
    names = {value: name for name, value in model.named_parameters()}
    found = {
        names[value]: (group['lr'], group['weight_decay'])
        for group in build_optim_wrapper(model, schedule.optim_wrapper).optimizer.param_groups
        for value in group['params']
    }
    encoder = 'student.backbone.encoder.'
    for name in ('cls_token', 'position_embeddings'):
        assert found[f'{encoder}embeddings.{name}'] == pytest.approx((5e-6, 0.0))
    assert found[f'{encoder}encoder.layer.0.norm1.weight'] == pytest.approx((5e-6, 0.0))
    assert found[f'{encoder}encoder.layer.0.mlp.fc1.weight'] == pytest.approx((5e-6, 0.1))
    # The multiplier reaches the reassembly, as in the paper's code.
    assert found['student.backbone.reassembly.0.0.weight'] == pytest.approx((5e-6, 0.1))
    decoder = 'student.panoptic_head.pixel_decoder.'
    assert found[f'{decoder}laterals.0.0.weight'] == pytest.approx((5e-5, 0.1))
    assert found[f'{decoder}fusions.0.unit.2.weight'] == pytest.approx((5e-5, 0.0))
