"""mmseg segmentors as students and teachers: taps on heads, predictions that stay in place, losses of some images."""

import copy

import pytest
import torch
from mmseg.structures import SegDataSample

from castkd.adapters import SemanticAdapter, adapter_for
from castkd.architectures import pixel_loss
from castkd.errors import ConfigError
from castkd.registry import build_model
from castkd.semantic import IGNORE, padded_shape
from castkd.taps import record_taps
from castkd.teachers import Teacher
from tests.builders import make_map_sample, tiny_segmentor

SIZE = (33, 47)


def with_auxiliary_heads(config):
    head = dict(config['decode_head'], in_index=1, in_channels=16)
    return {**config, 'auxiliary_head': [head, dict(head, in_index=2, in_channels=32)]}


def cascade():
    """Return the config of a segmentor of two stages, as OCRNet is."""
    config = tiny_segmentor()
    first = config['decode_head']
    second = dict(
        first,
        type='OCRHead',
        ocr_channels=8,
    )
    del second['num_convs'], second['concat_input']
    return {
        **config,
        'type': 'CascadeEncoderDecoder',
        'num_stages': 2,
        'decode_head': [first, second],
    }


def build(config):
    torch.manual_seed(0)
    return build_model(copy.deepcopy(config)).eval()


@pytest.fixture
def network():
    return build(with_auxiliary_heads(tiny_segmentor()))


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(3, 3, *SIZE)


@pytest.fixture
def samples():
    maps = torch.randint(0, 3, (3, *SIZE))
    maps[0, :10] = IGNORE
    maps[1] = IGNORE
    return [make_map_sample(item) for item in maps]


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


@pytest.mark.parametrize('config', [tiny_segmentor(), cascade()], ids=['plain', 'cascade'])
def test_a_segmentor_is_known_by_its_methods(config):
    assert isinstance(adapter_for(build(config)), SemanticAdapter)


@pytest.mark.parametrize('kind', ['forward', 'predict', 'loss'])
def test_taps_on_heads_fire_in_every_kind_of_pass(network, images, samples, kind):
    before = {name: dict(vars(module)) for name, module in network.named_modules()}
    taps = ['decode_head', 'decode_head:input', 'decode_head.conv_seg:input', 'backbone[1]']
    taps += ['auxiliary_head.1']
    with record_taps(network, tuple(taps)) as values:
        arguments = ([0, 2],) if kind == 'loss' else ()
        outputs = getattr(adapter_for(network), kind)(network, images, samples, *arguments)
    assert values['decode_head'].shape == (3, 3, 2, 2)
    assert values['backbone[1]'].shape[0] == 3
    assert len(values['decode_head:input']) == 4
    features = network.extract_feat(images)
    torch.testing.assert_close(values['auxiliary_head.1'], network.auxiliary_head[1](features))
    if kind == 'forward':
        assert outputs is values['decode_head']
    # Nothing of it stays behind.
    assert {name: dict(vars(module)) for name, module in network.named_modules()} == before


def test_an_auxiliary_head_runs_only_for_a_tap(network, images, samples):
    calls = []
    # No forward hook, which would be a tap.
    network.auxiliary_head[0].register_forward_pre_hook(lambda *_: calls.append(1))
    with record_taps(network, ('auxiliary_head.1.conv_seg', 'decode_head')):
        adapter_for(network).forward(network, images, samples)
    assert not calls


def test_a_cascade_gives_the_logits_of_its_last_head(images, samples):
    network = build(cascade())
    with record_taps(network, ('decode_head.0', 'decode_head.1')) as values:
        outputs = adapter_for(network).forward(network, images, samples)
    assert outputs is values['decode_head.1']
    assert not torch.equal(values['decode_head.0'], outputs)


@pytest.mark.parametrize('config', [with_auxiliary_heads(tiny_segmentor()), cascade()])
def test_loss_over_some_images_is_their_own_loss(config, images, samples):
    """With fixed batch norms, an image does not depend on its neighbours."""
    network = build(config)
    partial = adapter_for(network).loss(network, images, samples, [0, 2])
    alone = network.loss(images[[0, 2]], [samples[0], samples[2]])
    assert partial.keys() == alone.keys()
    assert (
        len([name for name in alone if 'loss' in name])
        == len(config.get('auxiliary_head', [0])) + 1
    )
    for name, value in alone.items():
        torch.testing.assert_close(partial[name], value)


@pytest.mark.parametrize(
    'loss',
    [
        dict(avg_non_ignore=False),
        dict(avg_non_ignore=True),
        pixel_loss(class_weight=[1.0, 2.0, 3.0]),
    ],
    ids=['all pixels', 'labelled pixels', 'weights of classes'],
)
def test_loss_over_no_image_is_a_connected_zero(images, samples, loss):
    """A fully ignored crop, and a batch of such."""
    config = tiny_segmentor()
    config['decode_head']['loss_decode'] |= loss
    network = build(config)
    adapter = adapter_for(network)
    assert [adapter.has_targets(sample) for sample in samples] == [True, False, True]
    for keep, batch in (([], slice(0, 3)), ([0], slice(1, 2))):
        network.zero_grad(set_to_none=True)
        value = total(adapter.loss(network, images[batch], samples[batch], keep))
        assert value == 0
        value.backward()
        assert network.backbone.conv1.weight.grad.abs().max() == 0


def test_an_image_without_a_map_is_told(network, images, samples):
    samples[1] = make_map_sample(shape=SIZE)
    with pytest.raises(ConfigError, match=r"image 'image\.png' has no label map to learn from"):
        adapter_for(network).loss(network, images, samples, [0, 1, 2])


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_predictions_stay_where_the_input_is(images, mode):
    """Whatever was flipped, resized or padded before, a view's prediction fits the view."""
    config = tiny_segmentor()
    if mode == 'slide':
        config['test_cfg'] = dict(mode='slide', crop_size=(24, 24), stride=(16, 16))
    network = build(config)
    meta = dict(flip=True, flip_direction='horizontal', ori_shape=(99, 80), pad_shape=None)
    views = [make_map_sample(shape=(30, 40), **meta) for _ in images]
    for view in views:
        view.set_metainfo(dict(padding_size=(0, 7, 0, 3)))
    found = adapter_for(network).predict(network, images, views)
    plain = network.predict(
        images,
        [
            SegDataSample(metainfo=dict(img_shape=SIZE, pad_shape=SIZE, ori_shape=SIZE))
            for _ in images
        ],
    )
    for sample, wanted in zip(found, plain, strict=True):
        assert sample.pred_sem_seg.shape == SIZE == padded_shape(sample)
        assert torch.equal(sample.pred_sem_seg.data, wanted.pred_sem_seg.data)
        scores = wanted.seg_logits.data.softmax(0).max(0).values
        torch.testing.assert_close(sample.pred_sem_seg.scores[0], scores)
        assert sample.metainfo['ori_shape'] == (99, 80)
        assert sample.metainfo['flip']


def test_one_channel_is_refused(images):
    config = tiny_segmentor(2)
    config['decode_head'].update(out_channels=1, threshold=0.5)
    config['decode_head']['loss_decode']['use_sigmoid'] = True
    network = build(config)
    with pytest.raises(ConfigError, match='one output channel gives no class probabilities'):
        adapter_for(network).predict(network, images, [make_map_sample(shape=SIZE)] * 3)


def test_a_teacher_predicts_in_the_students_classes_and_pixels(images):
    network = build(tiny_segmentor())
    mapping = {'a': 'z', 'b': None, 'c': 'y'}
    options = dict(classes=('a', 'b', 'c'), class_mapping=mapping)
    views = [make_map_sample(shape=SIZE) for _ in images]
    own = adapter_for(network).predict(network, images, views)
    for scale, same in ((1.0, True), (2.0, False)):
        teacher = Teacher(network, input_scale=scale, **options)
        teacher.connect(network, ('y', 'z'))
        before = teacher.fingerprint()
        mapped = teacher.predict(images, views)
        assert teacher.fingerprint() == before
        for sample, prediction in zip(mapped, own, strict=True):
            assert sample.pred_sem_seg.shape == SIZE
            assert set(sample.pred_sem_seg.data.unique().tolist()) <= {0, 1, IGNORE}
            table = torch.tensor([1, IGNORE, 0])
            equal = torch.equal(sample.pred_sem_seg.data, table[prediction.pred_sem_seg.data])
            assert equal or not same
    assert IGNORE in torch.cat([sample.pred_sem_seg.data for sample in mapped])
