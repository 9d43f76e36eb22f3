"""mmdet's Grounding DINO as the foundation teacher's detector: mmdet's losses and boxes, first weights, a distiller."""

from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.models.layers.transformer.utils import coordinate_to_encoding
from torch import nn

from castkd.adapters import adapter_for
from castkd.architectures import MMDET_FOUNDATION_FEATURE, foundation_segmentor
from castkd.errors import CheckpointError, ConfigError, DataError
from castkd.registry import build_model
from castkd.teachers import FoundationTeacher
from castkd.teachers.mmdet_grounding_dino import _fit_encoding
from tests.builders import make_batch
from tests.foundation import (
    CLASSES,
    adapted,
    check_gradients,
    make_text_encoder,
    segmenter_config,
    tiny_mmdet_foundation,
)

pytest.importorskip('transformers')
PUBLISHED = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'mm_grounding_dino'


@pytest.fixture(scope='module')
def text_encoder(tmp_path_factory):
    return make_text_encoder(tmp_path_factory.mktemp('bert'))


@pytest.fixture
def network(text_encoder):
    torch.manual_seed(0)
    built = build_model(tiny_mmdet_foundation(text_encoder))
    built.detector.init_weights()
    return built


@pytest.fixture
def batch():
    inputs, samples = make_batch(['sup'])
    return inputs['sup'], samples['sup']


def as_mmdet_reads(network, samples):
    """Let mmdet's own code run on this version of the transformers library, and give samples what it reads."""
    language = network.language_model
    language.tokenizer.__class__.batch_encode_plus = lambda self, texts, **options: self(
        texts, **{**options, 'max_length': None, 'truncation': False}
    )
    language.language_backbone.body.model.register_forward_pre_hook(
        lambda _, inputs, options: (
            inputs,
            {**options, 'attention_mask': options['attention_mask'][:, None]},
        ),
        with_kwargs=True,
    )
    for sample in samples:
        sample.set_metainfo(dict(text='. '.join(CLASSES), custom_entities=True))


def test_losses_are_those_of_mmdets_own_code(network, batch):
    images, samples = batch
    torch.manual_seed(1)
    found = network.detector.losses(network.detector(images, samples)[2], images, samples, [0, 1])
    as_mmdet_reads(network.detector.network, samples)
    torch.manual_seed(1)
    expected = network.detector.network.loss(images, samples)
    assert any('dn_' in name for name in expected)
    for kind, value in found.items():
        wanted = sum(item.sum() for name, item in expected.items() if name.endswith(kind))
        torch.testing.assert_close(value, wanted)


def test_boxes_are_those_of_mmdets_own_code(network, batch):
    network.eval()
    images, samples = batch
    for sample in samples:
        sample.set_metainfo(dict(img_shape=(64, 48), scale_factor=(1.0, 1.0)))
        # Images to label come without labels.
        del sample.gt_instances
    found = network.detector.predict(images, samples)
    as_mmdet_reads(network.detector.network, samples)
    with torch.no_grad():
        expected = network.detector.network.predict(images, samples, rescale=False)
    for one, sample in zip(found, expected, strict=True):
        # mmdet keeps the 10 best of 20 pairs of query and class, here all are kept.
        for name in ('scores', 'labels', 'bboxes'):
            torch.testing.assert_close(one[name][:10], sample.pred_instances[name])


def test_queries_are_not_those_that_learn_to_denoise(network, batch):
    network.eval()
    detector = network.detector
    with torch.no_grad():
        *learning, grounded = detector(*batch)
        *alone, _ = detector(*batch, detector.prompts.whole[0])
    assert grounded.outputs[0]['dn_meta']['num_denoising_queries'] > 0
    for one, other in zip(learning, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_other_frequencies_of_the_encoding_are_left_out():
    boxes = torch.rand(2, 3, 4)
    head = nn.Module()
    head.layers = nn.ModuleList([nn.Linear(64, 8)])
    doubled = coordinate_to_encoding(boxes, num_feats=32)
    (fitted,) = _fit_encoding(head, (doubled,))
    torch.testing.assert_close(fitted, coordinate_to_encoding(boxes, num_feats=16))
    assert _fit_encoding(head, (fitted,))[0] is fitted


@pytest.mark.parametrize('dtype', [None, torch.bfloat16, torch.float16])
def test_losses_train_everything_but_what_is_frozen(network, batch, dtype):
    network.train()
    with torch.autocast('cpu', dtype=dtype, enabled=dtype is not None):
        losses = network.loss(*batch)
    assert set(losses) == {'loss_cls', 'loss_bbox', 'loss_iou', 'loss_focal', 'loss_mask_dice'}
    sum(losses.values()).backward()
    for name, value in network.named_parameters():
        if name.startswith('detector.network.language_model.'):
            assert not value.requires_grad
        elif value.requires_grad:
            assert value.grad is not None, name
            assert torch.isfinite(value.grad).all(), name
    assert not network.detector.text_encoder.training
    assert network.detector.network.decoder.training


def test_a_batch_without_any_label_is_finite(network, batch):
    images, samples = batch
    network.train()
    for sample in samples:
        sample.gt_instances = sample.gt_instances[:0]
    losses = network.loss(images, samples)
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses['loss_cls'] > 0
    assert losses['loss_bbox'] == losses['loss_iou'] == 0
    sum(adapter_for(network).loss(network, images, samples, []).values()).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_long_lists_of_classes_share_one_run_of_the_image_backbone(text_encoder, batch):
    config = tiny_mmdet_foundation(text_encoder, ('car', 'person', 'van'), max_text_len=6)
    detector = build_model(config).detector.eval()
    detector.init_weights()
    runs = []
    detector.network.backbone.register_forward_hook(lambda *_: runs.append(1))
    found = detector.predict(*batch)
    assert len(detector.prompts.whole) == 2
    assert len(runs) == 1
    assert set(found[0].labels.tolist()) == {0, 1, 2}
    detector.test_scale = (32, 32)
    for small, sample in zip(detector.predict(*batch), batch[1], strict=True):
        assert small.bboxes.max() <= max(sample.img_shape)


def test_it_is_adapted_as_the_student_of_a_distiller(text_encoder):
    model = build_model(adapted(tiny_mmdet_foundation(text_encoder), MMDET_FOUNDATION_FEATURE))
    model.student.detector.init_weights()
    model.train()
    views = ['sup', 'sup_strong', 'unsup_teacher', 'unsup_student']
    total, log = model.parse_losses(model(*make_batch(views, size=128), mode='loss'))
    total.backward()
    assert {'sup.loss_cls', 'unsup.loss_bbox', 'cast.loss_pixel', 'cast.separation'} <= set(log)
    check_gradients(model)


def test_first_weights_are_a_checkpoint_of_mmdet(text_encoder, network, tmp_path):
    state = network.detector.network.state_dict()
    constant = 'language_model.language_backbone.body.model.embeddings.position_ids'
    file = tmp_path / 'detector.pth'
    torch.save({'state_dict': {**state, constant: torch.arange(3)}, 'meta': {}}, file)
    config = tiny_mmdet_foundation(text_encoder, weights=str(file))
    # It is not fetched: the checkpoint holds it.
    config['detector']['config']['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint='nowhere.pth'
    )
    teacher = FoundationTeacher(config)
    teacher.load()
    assert teacher.provenance() == {'detector': str(file)}
    for key, value in teacher.model.detector.network.state_dict().items():
        assert torch.equal(value, state[key]), key
    torch.save({'state_dict': {'other': torch.zeros(1)}}, file)
    with pytest.raises(CheckpointError, match='is a checkpoint of another model'):
        teacher.model.detector.init_weights()


def test_a_published_config_is_read(text_encoder, monkeypatch):
    """The config of Swin-T, with a small text encoder."""
    file = PUBLISHED / 'grounding_dino_swin-t_pretrain_obj365.py'
    monkeypatch.setattr(
        'castkd.teachers.mmdet_grounding_dino.Config.fromfile', with_encoder(text_encoder)
    )
    built = foundation_segmentor(
        CLASSES,
        detector=dict(type='castkd.MMDetGroundingDINO', config=str(file), weights=None),
        synonyms={'car': ['car', 'van']},
    )
    built['segmenter'] = dict(type='castkd.SAM2', config=segmenter_config())
    network = build_model(built).detector
    assert network.classes == CLASSES
    assert (network.score_thr, network.test_scale) == (0.05, (800, 1333))
    assert len(network.prompts.whole[0].spans) == 3
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    # 172 M with BERT's 109 M and the 768 x 256 of its map, of which 16 x 256 are left here.
    assert 60e6 < trained < 66e6


def with_encoder(folder):
    from mmengine.config import Config

    read = Config.fromfile

    def fromfile(path):
        config = read(path)
        config.model.language_model.name = folder
        return config

    return fromfile


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(config='nowhere.py'), DataError, r"config 'nowhere\.py' does not exist"),
        (dict(config=dict(type='DINO')), ConfigError, r"mmdet's GroundingDINO .*got type 'DINO'"),
        (dict(score_thr=2), ConfigError, 'MMDetGroundingDINO: score_thr must be'),
    ],
)
def test_wrong_options_are_one_line(text_encoder, change, error, message):
    config = tiny_mmdet_foundation(text_encoder, **change)
    with pytest.raises(error, match=message) as caught:
        build_model(config)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('file', ['vocab.txt', 'model.safetensors'])
def test_a_text_encoder_that_is_not_whole_is_one_line(tmp_path, file):
    folder = Path(make_text_encoder(tmp_path / 'bert'))
    if file == 'vocab.txt':
        for path in folder.glob('*'):
            path.unlink()
    (folder / file).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match='bert') as caught:
        build_model(tiny_mmdet_foundation(str(folder)))
    assert '\n' not in str(caught.value)
