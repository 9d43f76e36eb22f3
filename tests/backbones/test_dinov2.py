"""DINOv2 as a backbone: sizes, what is read from it, first weights."""

import pytest
import torch

from castkd.backbones import DINOv2Backbone
from castkd.errors import CheckpointError, ConfigError

pytest.importorskip('transformers')
TINY = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28)


def tiny(**options):
    return DINOv2Backbone(TINY, channels=(4, 6, 8, 10), **options).eval()


def count(module):
    return sum(value.numel() for value in module.parameters())


def test_published_sizes():
    """T24."""
    with torch.device('meta'):
        backbone = DINOv2Backbone('small')
    assert count(backbone.encoder) == 22_056_576
    assert count(backbone.reassembly) == 6_158_784


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        ((512, 1024), [(148, 296), (74, 148), (37, 74), (19, 37)]),
        ((518, 1036), [(148, 296), (74, 148), (37, 74), (19, 37)]),
        ((630, 630), [(180, 180), (90, 90), (45, 45), (23, 23)]),
    ],
)
def test_sizes_of_the_maps(size, expected):
    """T23."""
    with torch.device('meta'):
        maps = tiny()(torch.zeros(1, 3, *size))
    assert [tuple(value.shape) for value in maps] == [
        (1, channels, *shape) for channels, shape in zip((4, 6, 8, 10), expected, strict=True)
    ]


def test_padding_is_on_the_right_and_below():
    backbone = tiny()
    image = torch.randn(1, 3, 27, 40)
    padded = torch.nn.functional.pad(image, (0, 2, 0, 1))
    with torch.no_grad():
        for value, wanted in zip(backbone(image), backbone(padded), strict=True):
            assert torch.equal(value, wanted)


def test_a_network_that_pads_says_so_once(monkeypatch):
    said = []
    monkeypatch.setattr('castkd.backbones.dinov2.print_log', lambda text, *_: said.append(text))
    backbone = tiny()
    with torch.no_grad():
        backbone(torch.randn(1, 3, 28, 28))
        assert said == []
        backbone(torch.randn(1, 3, 28, 30))
        backbone(torch.randn(1, 3, 28, 30))
    (text,) = said
    assert 'data_preprocessor.pad_size_divisor=14' in text


def test_maps_are_the_normalised_quarters_without_class_token():
    backbone = tiny()
    image = torch.randn(2, 3, 28, 42)
    encoder = backbone.encoder
    with torch.no_grad():
        hidden = encoder.embeddings(image)
        tokens = []
        for block in encoder.encoder.layer:
            hidden = block(hidden)
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            tokens.append(encoder.layernorm(hidden)[:, 1:])
        maps = backbone(image)
        for part, value, token in zip(backbone.reassembly, maps, tokens, strict=True):
            wanted = part(token.transpose(1, 2).reshape(2, 16, 2, 3))
            torch.testing.assert_close(value, wanted)


def test_every_trained_weight_gets_a_gradient():
    """Distributed training waits for each of them."""
    backbone = tiny().train()
    sum(value.square().mean() for value in backbone(torch.randn(1, 3, 28, 28))).backward()
    idle = [
        name
        for name, value in backbone.named_parameters()
        if value.requires_grad and value.grad is None
    ]
    assert idle == []
    frozen = [name for name, value in backbone.named_parameters() if not value.requires_grad]
    assert frozen == ['encoder.embeddings.mask_token']


def test_first_weights_come_when_the_model_is_initialised(tmp_path):
    source = tiny()
    source.encoder.save_pretrained(tmp_path)
    backbone = tiny(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path)))
    assert not torch.equal(
        source.encoder.embeddings.cls_token, backbone.encoder.embeddings.cls_token
    )
    kept = backbone.reassembly[0][0].weight.clone()
    backbone.init_weights()
    for key, value in source.encoder.state_dict().items():
        assert torch.equal(value, backbone.encoder.state_dict()[key]), key
    assert torch.equal(kept, backbone.reassembly[0][0].weight)


def test_weights_that_are_not_there_name_the_layout(tmp_path):
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'nothing'))
    with pytest.raises(CheckpointError, match=r'^DINOv2Backbone: .*config\.json and model\.saf'):
        tiny(init_cfg=init).init_weights()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(encoder='tiny'), 'encoder must be one of'),
        (dict(encoder={**TINY, 'num_hidden_layers': 6}), 'multiple of 4, got 6'),
        (dict(encoder={**TINY, 'hidden_size': 'wide'}), 'these options are no Dinov2Config'),
        (dict(encoder=TINY, channels=(1, 2, 3)), 'number of channels'),
        (dict(encoder=TINY, init_cfg=dict(type='Normal')), r'init_cfg\.type must be one of'),
    ],
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        DINOv2Backbone(**options)
    assert '\n' not in str(caught.value)
