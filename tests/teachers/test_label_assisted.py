"""Label-assisted segmentors and teachers: stem, labels as input, errors, and what stays as it was."""

import copy

import pytest
import torch

from castkd.distiller import Distiller
from castkd.engine.measuring import count_operations
from castkd.errors import CheckpointError, ConfigError, DataError
from castkd.registry import build_model
from castkd.structures import Pass
from castkd.teachers import LabelAssistedTeacher
from tests.builders import make_map_sample, tiny_segmentor

CLASSES = 3
STD = (58.395 + 57.12 + 57.375) / 3
ASSISTED = 'castkd.LabelAssistedSegmentor'


def assisted_config(**options):
    return {**tiny_segmentor(CLASSES), 'type': ASSISTED, **options}


def build(**options):
    torch.manual_seed(0)
    network = build_model(assisted_config(**options))
    network.init_weights()
    return network


def labelled(size=(64, 64), count=2, **meta):
    """Return images and samples with random labels and an ignored corner."""
    labels = torch.randint(CLASSES, (count, *size))
    labels[:, :9, :7] = 255
    samples = [make_map_sample(item, img_path=f'{i}.png', **meta) for i, item in enumerate(labels)]
    return torch.randn(count, 3, *size), samples


def quiet(mode='fixed'):
    return dict(type='castkd.LabelNoise', mode=mode, sigma=0.0)


@pytest.fixture
def plain_file(tmp_path):
    """Write the weights of an ordinary network; return the file and the network."""
    torch.manual_seed(4)
    network = build_model(tiny_segmentor(CLASSES))
    network.init_weights()
    torch.save({'state_dict': network.state_dict(), 'meta': {}}, tmp_path / 'plain.pth')
    return str(tmp_path / 'plain.pth'), network


def assisted_file(path, classes=None, **options):
    network = build(**options)
    meta = {'dataset_meta': {'classes': classes}} if classes else {}
    torch.save({'state_dict': network.state_dict(), 'meta': meta}, path)
    return network


class TestStem:
    def test_label_channel_is_the_only_difference_of_the_networks(self):
        plain = build_model(tiny_segmentor(CLASSES)).state_dict()
        assisted = build().state_dict()
        assert list(plain) == list(assisted)
        different = {key for key, value in plain.items() if value.shape != assisted[key].shape}
        assert different == {'backbone.conv1.weight'}
        assert assisted['backbone.conv1.weight'].shape == (64, 4, 7, 7)

    def test_pretrained_backbone_is_inflated(self, plain_file, tmp_path):
        _, plain = plain_file
        torch.save({'state_dict': plain.backbone.state_dict()}, tmp_path / 'backbone.pth')
        config = assisted_config()
        config['backbone']['init_cfg'] = dict(
            type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth')
        )
        network = build_model(config)
        network.init_weights()
        weight = network.backbone.conv1.weight
        assert torch.equal(weight[:, :3], plain.backbone.conv1.weight)
        assert weight[:, 3].std().item() == pytest.approx(0.1, rel=0.15)
        assert torch.equal(
            network.backbone.layer4[1].conv2.weight, plain.backbone.layer4[1].conv2.weight
        )

    def test_pretrained_segmentor_is_inflated_and_equal_on_a_zero_label_channel(self, plain_file):
        file, plain = plain_file
        network = build(init_cfg=dict(type='Pretrained', checkpoint=file), label_std=1e-4)
        assert 0 < network.backbone.conv1.weight[:, 3].abs().max() < 1e-3
        images = torch.randn(1, 3, 40, 56)
        stem = network.backbone.conv1
        with torch.no_grad():
            zero = torch.cat([images, torch.zeros(1, 1, 40, 56)], dim=1)
            torch.testing.assert_close(stem(zero), plain.backbone.conv1(images))
            network.eval(), plain.eval()
            torch.testing.assert_close(network(zero, mode='tensor'), plain(images, mode='tensor'))

    def test_weights_of_the_label_channel_survive_a_load(self, tmp_path):
        trained = assisted_file(tmp_path / 'assisted.pth')
        init = dict(type='Pretrained', checkpoint=str(tmp_path / 'assisted.pth'))
        again = build_model(assisted_config(init_cfg=init))
        again.init_weights()
        assert torch.equal(again.backbone.conv1.weight, trained.backbone.conv1.weight)

    def test_random_weights(self):
        weight = build(label_std=0.5).backbone.conv1.weight
        assert weight[:, 3].std().item() == pytest.approx(0.5, rel=0.15)
        assert weight[:, :3].std() < 0.2

    def test_second_initialisation_changes_nothing(self):
        network = build()
        before = network.backbone.conv1.weight.clone()
        network.init_weights()
        assert torch.equal(network.backbone.conv1.weight, before)

    def test_inflation_is_no_part_of_an_ordinary_load(self, plain_file):
        with pytest.raises(RuntimeError, match=r'size mismatch for backbone\.conv1'):
            build().load_state_dict(plain_file[1].state_dict())

    @pytest.mark.parametrize(
        ('backbone', 'stem'),
        [
            (dict(type='ResNetV1c', depth=18, norm_cfg=dict(type='BN')), 'stem.0'),
            (dict(type='MobileNetV2', out_indices=(0, 1, 2, 6)), 'conv1.conv'),
            (dict(type='STDCNet', stdc_type='STDCNet1', in_channels=3,
                  channels=(32, 64, 256, 512, 1024), bottleneck_type='cat', num_convs=4,
                  norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU')), 'stages.0.conv'),
            (dict(type='MixVisionTransformer', embed_dims=8), 'layers.0.0.projection'),
        ],
        ids=lambda value: value['type'] if isinstance(value, dict) else value,
    )  # fmt: skip
    def test_stems_of_other_backbones(self, backbone, stem):
        network = build_model(assisted_config(backbone=backbone))
        conv = network.backbone.get_submodule(stem)
        assert conv.in_channels == conv.weight.shape[1] == 4

    def test_backbone_that_reads_no_image(self):
        config = assisted_config()
        config['backbone']['in_channels'] = 5
        with pytest.raises(ConfigError, match=r'ResNet: .* cannot be widened for a label map'):
            build_model(config)


class TestLabels:
    def test_channel_is_the_noise_in_units_of_the_images(self):
        network = build(test_noise=quiet()).eval()
        images, samples = labelled()
        attached = network.attach_labels(images, samples)
        assert torch.equal(attached[:, :3], images)
        labels = torch.stack([sample.gt_sem_seg.data for sample in samples])
        expected = torch.where(labels == 255, CLASSES, labels) - (CLASSES + 1) / 2
        torch.testing.assert_close(attached[:, 3:], expected * 2.2 / (CLASSES + 1) * 100 / STD)

    def test_images_that_are_not_divided_leave_the_channel_as_it_is(self):
        config = assisted_config(test_noise=quiet())
        config['data_preprocessor']['std'] = [1.0, 1.0, 1.0]
        images, samples = labelled()
        value = build_model(config).eval().attach_labels(images, samples)[0, 3, 0, 0]
        assert value.item() == pytest.approx(
            55
        )  # ignored, the last of four: (3 - 2) * 2.2 / 4 * 100

    def test_modes(self):
        """Every run of a network in train mode draws anew, with the paper's sigma; in eval mode values are fixed."""
        network, (images, samples) = build(), labelled()
        kind = (network.train_noise.mode, network.train_noise.sigma)
        assert kind == ('random', 0.03)
        assert (network.test_noise.mode, network.test_noise.sigma) == ('fixed', 0.02)
        network.train()
        first, second = (network.attach_labels(images, samples)[:, 3] for _ in range(2))
        assert (first - second).abs().max() > 1
        network.eval()
        first, second = (network.attach_labels(images, samples)[:, 3] for _ in range(2))
        assert 0 < (first - second).abs().max() < 0.5

    def test_labels_in_the_pixels_of_the_file(self):
        """A validation pipeline resizes the image alone, and the batch is padded."""
        labels = torch.arange(6).repeat_interleave(2).remainder(3).view(1, 12).repeat(10, 1)
        sample = make_map_sample(labels)
        sample.set_metainfo(dict(img_shape=(20, 24), ori_shape=(10, 12)))
        network = build(test_noise=quiet()).eval()
        channel = network.attach_labels(torch.randn(1, 3, 32, 32), [sample])[0, 3]
        values = channel[0, :24:4]
        assert torch.equal(channel[:20, :24], values.repeat_interleave(4).expand(20, 24))
        assert values.unique().numel() == 3
        assert (channel[20:] == channel[-1, -1]).all()
        assert (channel[:, 24:] == channel[-1, -1]).all()
        assert not (channel[:20, :24] == channel[-1, -1]).any()

    def test_a_label_channel_of_zeros_learns_nothing(self):
        """A student of four channels, the last one zero, is a student of three."""
        network, images = build().train(), torch.randn(2, 4, 64, 64)
        images[:, 3] = 0
        network(images, mode='tensor').square().mean().backward()
        gradient = network.backbone.conv1.weight.grad
        assert gradient[:, :3].any()
        assert not gradient[:, 3].any()

    def test_labels_change_the_output(self):
        network, (images, samples) = build().eval(), labelled()
        others = [make_map_sample(sample.gt_sem_seg.data[0].flip(0)) for sample in samples]
        with torch.no_grad():
            outputs = [network(images, item, mode='tensor') for item in (samples, others)]
        assert (outputs[0] - outputs[1]).abs().max() > 1e-3

    @pytest.mark.parametrize('size', [(65, 47), (33, 71)])
    def test_odd_sizes(self, size):
        network, (images, samples) = build(), labelled(size)
        losses = network.loss(images, samples)
        assert losses['decode.loss_ce'].isfinite()
        predictions = network.eval().predict(images, samples)
        assert predictions[0].pred_sem_seg.data.shape == (1, *size)

    def test_preprocessor_pads_and_ignores(self):
        """mmseg's preprocessor fills up images of odd sizes; their labels are ignored there, and never an index."""
        network = build(train_noise=quiet()).train()
        sample = make_map_sample(torch.zeros(33, 40, dtype=torch.long))
        image = torch.zeros(3, 33, 40, dtype=torch.uint8)
        data = network.data_preprocessor(dict(inputs=[image], data_samples=[sample]), True)
        channel = network.attach_labels(data['inputs'], data['data_samples'])[0, 3]
        assert channel.shape == (64, 64)
        assert channel.unique().numel() == 2
        assert (channel[33:] == channel[0, 63]).all()
        assert channel.abs().max() < 2

    def test_label_that_is_no_class(self):
        images, samples = labelled()
        samples[1].gt_sem_seg.data[0, 20, 20] = CLASSES
        with pytest.raises(DataError, match=r'a label map holds 3, .* 3 classes \(0 to 2\)'):
            build().loss(images, samples)

    @pytest.mark.parametrize('mode', ['loss', 'predict', 'tensor'])
    def test_image_without_labels(self, mode):
        images, samples = labelled()
        del samples[1].gt_sem_seg
        with pytest.raises(ConfigError, match=r'reads the label map .*, and 1\.png comes without'):
            build().eval()(images, samples, mode=mode)

    def test_operations_are_not_counted_without_labels(self):
        """A dry run counts on whatever view comes first."""
        network, (images, samples) = build(), labelled(count=1)
        assert count_operations(network, images, samples) > 0
        del samples[0].gt_sem_seg
        assert count_operations(network, images, samples) is None

    def test_no_samples_at_all(self):
        network, images = build(), torch.randn(2, 3, 64, 64)
        with pytest.raises(ConfigError, match='the image comes without one'):
            network(images, mode='tensor')
        with pytest.raises(ConfigError, match='called on images without labels') as error:
            network.extract_feat(images)
        assert '\n' not in str(error.value)


class TestCascade:
    def test_cascade_reads_labels(self):
        config = assisted_config(type='castkd.LabelAssistedCascadeSegmentor', num_stages=2)
        head = config['decode_head']
        context = {**head, 'type': 'OCRHead', 'ocr_channels': 8}
        context = {key: context[key] for key in context if key not in ('num_convs', 'concat_input')}
        config['decode_head'] = [head, context]
        network, (images, samples) = build_model(config), labelled()
        losses = network.loss(images, samples)
        assert losses['decode_1.loss_ce'].isfinite()
        with pytest.raises(ConfigError, match='LabelAssistedCascadeSegmentor was called on images'):
            network.extract_feat(images)


class TestTeacher:
    TAPS = ('decode_head.conv_seg',)

    def distiller(self, file, classes=None, **options):
        teacher = dict(type='castkd.LabelAssistedTeacher', model=assisted_config(**options),
                       checkpoint=str(file))  # fmt: skip
        distiller = Distiller(
            student=tiny_segmentor(CLASSES), teachers=dict(twin=teacher), classes=classes
        )
        distiller.init_weights()
        return distiller

    @pytest.mark.parametrize('kind', ['encode', 'forward', 'predict'])
    def test_every_kind_of_run_has_labels(self, tmp_path, kind):
        network = assisted_file(tmp_path / 'assisted.pth', test_noise=quiet()).eval()
        teacher = self.distiller(tmp_path / 'assisted.pth', test_noise=quiet()).teachers['twin']
        images, samples = labelled()
        taps = ('backbone[3]',) if kind == 'encode' else self.TAPS
        result = teacher.run(Pass('twin', 'sup', kind, taps, grad=False), images, samples)
        with torch.no_grad():
            attached = network.attach_labels(images, samples)
            expected = network.extract_feat(attached)[3]
            if kind != 'encode':
                expected = network(attached, mode='tensor')
        assert torch.equal(result.taps[taps[0]], expected)
        assert not result.taps[taps[0]].requires_grad

    def test_images_of_another_normalisation(self, tmp_path):
        """The label channel follows the teacher's own normalisation, not the student's."""
        assisted_file(tmp_path / 'assisted.pth')
        config = assisted_config(test_noise=quiet())
        config['data_preprocessor'] = {**config['data_preprocessor'], 'std': [10.0, 10.0, 10.0]}
        teacher = LabelAssistedTeacher(config, str(tmp_path / 'assisted.pth'))
        teacher.connect(build_model(tiny_segmentor(CLASSES)), None)
        images, samples = labelled()
        converted, _ = teacher._converted(images, samples)
        assert converted[0, 3, 0, 0].item() == pytest.approx(5.5)
        assert not torch.allclose(converted[:, :3], images)

    def test_view_without_labels(self, tmp_path):
        assisted_file(tmp_path / 'assisted.pth')
        teacher = self.distiller(tmp_path / 'assisted.pth').teachers['twin']
        images, samples = labelled()
        for sample in samples:
            del sample.gt_sem_seg
        with pytest.raises(ConfigError, match=r'reads the label map of every image, and 0\.png'):
            teacher.run(Pass('twin', 'unsup', 'forward', grad=False), images, samples)

    def test_weights_of_an_ordinary_network_are_refused(self, plain_file):
        with pytest.raises(CheckpointError, match=r'conv1.weight \(64, 3, 7, 7\) in the file'):
            self.distiller(plain_file[0])

    def test_ordinary_network_is_refused(self, plain_file):
        with pytest.raises(ConfigError, match='EncoderDecoder reads no labels'):
            LabelAssistedTeacher(tiny_segmentor(CLASSES), plain_file[0])

    def test_classes_are_compared(self, tmp_path):
        assisted_file(tmp_path / 'assisted.pth', classes=('a', 'b', 'c'))
        with pytest.raises(ConfigError, match="'twin' predicts classes"):
            self.distiller(tmp_path / 'assisted.pth', classes=('a', 'c', 'b'))

    def test_frozen_in_eval_mode(self, tmp_path):
        assisted_file(tmp_path / 'assisted.pth')
        distiller = self.distiller(tmp_path / 'assisted.pth').train()
        teacher = distiller.teachers['twin']
        assert not any(module.training for module in teacher.model.modules())
        assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
        assert not any('twin' in key for key in distiller.state_dict())


def test_moving_average_has_the_wide_stem_too():
    network = build()
    assert copy.deepcopy(network).backbone.conv1.in_channels == 4
