"""The foundation teacher: boxes from names, masks from boxes, their losses, and its places in a distiller."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.autograd.graph import saved_tensors_hooks

from castkd.adapters import adapter_for
from castkd.architectures import FOUNDATION_FEATURE, FOUNDATION_LAYERS, foundation_segmentor
from castkd.errors import CheckpointError, ConfigError
from castkd.registry import build_model
from castkd.structures import Pass
from castkd.teachers import FoundationTeacher
from tests.builders import make_batch, make_sample, square_masks, tiny_mask2former
from tests.foundation import (
    CLASSES,
    adapted,
    check_gradients,
    detector_config,
    make_tokenizer,
    tiny_foundation,
)

pytest.importorskip('transformers')
KINDS = ('grounding-dino', 'mm-grounding-dino')


@pytest.fixture(scope='module')
def tokenizer(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp('tokenizer'))


@pytest.fixture
def network(tokenizer):
    return build_model(tiny_foundation(tokenizer))


@pytest.fixture
def batch():
    inputs, samples = make_batch(['sup'])
    return inputs['sup'], samples['sup']


# ---- boxes ----------------------------------------------------------------------------------------------------------


class Answers(torch.nn.Module):
    """Stands for the network: fixed token probabilities and boxes per prompt."""

    def __init__(self, network, answers):
        super().__init__()
        self.config = network.config
        self.model = network.model
        self.answers = answers

    def forward(self, pixel_values, pixel_mask, input_ids):
        self.seen = pixel_values.shape
        self.mask = pixel_mask
        logits, boxes = self.answers[tuple(input_ids[0].tolist())]
        batch = len(pixel_values)

        class Outputs:
            pass

        Outputs.logits = torch.tensor(logits)[None].expand(batch, -1, -1).logit()
        Outputs.pred_boxes = torch.tensor(boxes)[None].expand(batch, -1, -1)
        return Outputs


def answering(network, *answers):
    """Replace the detector's network: per prompt, token probabilities and boxes."""
    detector = network.detector
    tokens = [prompt.tokens for prompt in detector.prompts.whole]
    detector.network = Answers(detector.network, dict(zip(tokens, answers, strict=True)))
    return detector


def test_boxes_are_sorted_scaled_and_strictly_above_the_threshold(network, batch):
    images, samples = batch
    for sample in samples:
        # The left half of the input is image, the right half padding.
        sample.set_metainfo(dict(img_shape=(64, 32)))
    # Tokens: first mark, car, dot, person, dot, last mark.
    probabilities = [
        [0.9, 0.5, 0.9, 0.3, 0.9, 0.9],
        [0.9, 0.1, 0.9, 0.7, 0.9, 0.9],
        [0.9, 0.2, 0.9, 0.1, 0.9, 0.9],
    ]
    boxes = [[0.5, 0.5, 0.5, 0.25], [0.5, 0.5, 1.5, 1.0], [0.1, 0.1, 0.1, 0.1]]
    detector = answering(network, (probabilities, boxes))
    detector.score_thr = 0.3
    with torch.no_grad():
        first, second = detector.predict(images, samples)
    torch.testing.assert_close(first.scores, torch.tensor([0.7, 0.5]))
    assert first.labels.tolist() == [1, 0]
    # Boxes are parts of the image without its padding, and end at its border.
    expected = [[0.0, 0.0, 32.0, 64.0], [8.0, 24.0, 24.0, 40.0]]
    torch.testing.assert_close(first.bboxes, torch.tensor(expected))
    torch.testing.assert_close(second.bboxes, first.bboxes)
    assert detector.network.mask.sum(dim=(1, 2)).tolist() == [64 * 32, 64 * 32]
    detector.max_per_image = 1
    assert [len(item) for item in detector.predict(images, samples)] == [1, 1]


def test_tiled_prompts_are_merged_into_one_ranking(tokenizer, batch):
    config = tiny_foundation(
        tokenizer,
        classes=('car', 'person', 'van'),
        config=detector_config(max_text_len=6),
        score_thr=0.25,
    )
    network = build_model(config)
    assert len(network.detector.prompts.whole) == 2
    boxes = [[0.25, 0.25, 0.5, 0.5]]
    first = ([[0.9, 0.4, 0.9, 0.6, 0.9, 0.9]], boxes)
    second = ([[0.9, 0.5, 0.9, 0.9, 0.0, 0.0]], [[0.75, 0.75, 0.5, 0.5]])
    detector = answering(network, first, second)
    found, _ = detector.predict(*batch)
    assert found.labels.tolist() == [1, 2, 0]
    torch.testing.assert_close(found.scores, torch.tensor([0.6, 0.5, 0.4]))
    assert found.bboxes[1].tolist() == [32.0, 32.0, 64.0, 64.0]


@pytest.mark.parametrize('kind', KINDS)
def test_all_prompts_share_one_run_of_the_image_backbone(tokenizer, batch, kind):
    config = tiny_foundation(
        tokenizer,
        classes=('car', 'person', 'van'),
        config=detector_config(kind, max_text_len=6),
    )
    detector = build_model(config).detector.eval()
    backbone = detector.network.model.backbone
    runs = []
    backbone.conv_encoder.register_forward_hook(lambda *_: runs.append(1))
    prompts = detector.prompts.whole
    found = detector.predict(*batch)
    assert len(prompts) == 2
    assert len(runs) == 1
    # A prompt alone sees what it saw beside the other.
    with torch.no_grad():
        alone = [detector(*batch, prompt)[0].sigmoid() for prompt in prompts]
    assert len(runs) == 3
    for index, instances in enumerate(found):
        scores = torch.cat([item[index] for item in alone]).flatten().sort(descending=True).values
        torch.testing.assert_close(instances.scores, scores[: len(instances)])


def test_images_are_resized_for_prediction_only(network, batch):
    images, samples = batch
    answer = ([[0.5] * 6], [[0.5, 0.5, 0.5, 0.5]])
    detector = answering(network, answer)
    detector.test_scale = (96, 128)
    found, _ = detector.predict(images[..., :48], samples_of(samples, (64, 48)))
    # 48 x 64 goes into 96 x 128 twice.
    assert detector.network.seen[-2:] == (128, 96)
    assert found.bboxes[0].tolist() == [12.0, 16.0, 36.0, 48.0]
    detector(images, samples, detector.prompts.whole[0])
    assert detector.network.seen[-2:] == (64, 64)


def samples_of(samples, shape):
    for sample in samples:
        sample.set_metainfo(dict(img_shape=shape, ori_shape=shape, batch_input_shape=shape))
    return samples


def test_boxes_are_inside_the_image_whatever_it_is_padded_to(network):
    """The network measures boxes in parts of the image, the caller in parts of the padded input."""
    image = torch.randn(1, 3, 128, 128)
    samples = [make_sample(square_masks(128, [(0, 0, 8)]), [0])]
    prompt = network.detector.prompts.whole[0]
    network.eval()
    with torch.no_grad():
        _, whole, found = network.detector(image, samples, prompt)
        torch.testing.assert_close(whole, found.outputs.pred_boxes)
        samples[0].set_metainfo(dict(batch_input_shape=(128, 256)))
        _, boxes, found = network.detector(F.pad(image, (0, 128, 0, 0)), samples, prompt)
    halved = found.outputs.pred_boxes * torch.tensor([0.5, 1.0, 0.5, 1.0])
    torch.testing.assert_close(boxes, halved)
    assert boxes[..., 0].max() <= 0.5


# ---- masks ----------------------------------------------------------------------------------------------------------


def test_masks_do_not_depend_on_the_number_of_boxes_in_a_run(network):
    segmenter = network.segmenter.eval()
    image = torch.randn(3, 40, 56)
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [5.0, 6.0, 50.0, 30.0], [1.0, 2.0, 9.0, 39.0]])
    results = []
    for count in (1, 2, 10):
        segmenter.boxes_per_run = count
        with torch.no_grad():
            results.append(segmenter(image, boxes))
    for logits, quality in results[1:]:
        torch.testing.assert_close(logits, results[0][0])
        torch.testing.assert_close(quality, results[0][1])
    masks, quality = segmenter.predict(image, boxes, (80, 112))
    assert masks.shape == (3, 80, 112)
    assert masks.dtype == torch.bool
    assert quality.shape == (3,)
    wanted = F.interpolate(results[0][0][:, None], size=(80, 112), mode='bilinear')[:, 0] > 0
    assert torch.equal(masks, wanted)
    none, empty = segmenter.predict(image, boxes[:0], (80, 112))
    assert none.shape == (0, 80, 112)
    assert len(empty) == 0


def test_boxes_are_prompts_in_pixels_of_the_square(network):
    segmenter = network.segmenter.eval()
    given = {}

    def keep(module, args, kwargs):
        given.update(kwargs)

    segmenter.network.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        segmenter(torch.randn(3, 32, 128), torch.tensor([[64.0, 8.0, 128.0, 32.0]]))
    assert given['input_boxes'].tolist() == [[[32.0, 16.0, 64.0, 64.0]]]
    assert given['multimask_output'] is False


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('rescale', [False, True])
def test_instances_have_masks_and_both_scores(network, batch, rescale):
    network.eval()
    images, samples = batch
    samples_of(samples, (64, 48))
    for sample in samples:
        sample.set_metainfo(dict(ori_shape=(128, 96), batch_input_shape=(64, 64)))
    found = network.predict(images, samples, rescale=rescale)[0].pred_instances
    shape = (128, 96) if rescale else (64, 48)
    assert found.masks.shape == (len(found), *shape)
    assert len(found) > 0
    assert (found.scores.diff() <= 0).all()
    torch.testing.assert_close(found.mask_scores, found.scores * found.mask_quality)
    assert found.bboxes[:, 2].max() <= shape[1]
    assert found.bboxes[:, 2].max() > shape[1] / 2
    network.ranking = 'quality'
    again = network.predict(images, samples, rescale=rescale)[0].pred_instances
    assert torch.equal(again.mask_scores, again.mask_quality)


def test_without_a_detection_there_are_no_instances_of_the_right_size(network, batch):
    """T28."""
    network.eval().detector.score_thr = 1.0
    for found in network.predict(*batch):
        assert len(found.pred_instances) == 0
        assert found.pred_instances.masks.shape == (0, 64, 64)


def test_half_precision_of_predictions_is_an_option(network, batch):
    network.eval()
    found = {}
    for amp in (None, 'bfloat16', 'float16'):
        network.amp = amp
        found[amp] = network.predict(*batch)[0].pred_instances
    for amp in ('bfloat16', 'float16'):
        assert torch.isfinite(found[amp].scores).all()
        assert torch.isfinite(found[amp].mask_scores).all()
        assert not torch.equal(found[None].scores[:5], found[amp].scores[:5])


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', [None, torch.bfloat16, torch.float16])
def test_losses_train_everything_but_what_is_frozen(tokenizer, batch, kind, dtype):
    network = build_model(tiny_foundation(tokenizer, config=detector_config(kind))).train()
    with torch.autocast('cpu', dtype=dtype, enabled=dtype is not None):
        losses = network.loss(*batch)
    assert set(losses) == {'loss_cls', 'loss_bbox', 'loss_iou', 'loss_focal', 'loss_mask_dice'}
    sum(losses.values()).backward()
    for name, value in network.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, name
            assert torch.isfinite(value.grad).all(), name
    frozen = ('detector.network.model.text_backbone.', 'segmenter.network.vision_encoder.')
    for name, value in network.named_parameters():
        if name.startswith(frozen):
            assert not value.requires_grad
    assert not network.detector.text_encoder.training
    assert not network.segmenter.network.vision_encoder.training
    assert network.detector.network.model.decoder.training
    assert network.segmenter.network.mask_decoder.training


def test_losses_fall_while_training(network, batch):
    """The criterion reaches class and box of every part: a few steps on two images bring losses down.

    Of the masks the focal term alone: with small objects and a random image encoder it first empties them.
    """
    detector = network.detector
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    history = []
    for _ in range(12):
        losses = network.loss(*batch)
        history.append({name: value.item() for name, value in losses.items()})
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
    for name in set(history[0]) - {'loss_mask_dice'}:
        assert history[-1][name] < history[0][name], name


def test_a_perfect_detection_costs_nothing_but_proposals(network, batch):
    """The token maps, box format and padding of targets fit those of the outputs."""
    images, samples = batch
    samples_of(samples, (64, 48))
    for sample in samples:
        sample.set_metainfo(dict(batch_input_shape=(64, 64)))
    detector = network.detector
    prompt = detector.prompts.whole[0]
    maps = prompt.token_maps(2, 32)
    layers = []
    for sample in samples[:1]:
        instances = sample.gt_instances
        boxes = torch.as_tensor(instances.bboxes)
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        wanted = torch.cat([centres, sizes], 1) / torch.tensor([48.0, 64.0, 48.0, 64.0])
        logits = torch.where(maps[instances.labels] > 0, 20.0, -20.0)
        layers.append((logits[None], wanted[None]))
    detector._layers = lambda outputs: layers

    class Found:
        pass

    Found.prompt, Found.outputs = prompt, None
    losses = detector.losses(Found, images, samples, [0])
    for name, value in losses.items():
        assert value.item() == pytest.approx(0.0, abs=1e-4), name
    layers[0] = (-layers[0][0], layers[0][1])
    assert detector.losses(Found, images, samples, [0])['loss_cls'] > 1


def test_mask_losses_are_twenty_focal_and_dice(network):
    segmenter = network.segmenter
    sample = make_sample(square_masks(64, [(0, 0, 32)]), [0])
    logits = torch.full((1, 16, 16), -20.0)
    logits[:, :8, :8] = 20.0
    segmenter.forward = lambda image, boxes: (logits, None)
    image = torch.zeros(1, 3, 64, 64)
    perfect = segmenter.losses(image, [sample])
    assert perfect['loss_focal'].item() == pytest.approx(0.0, abs=0.05)
    assert perfect['loss_mask_dice'].item() == pytest.approx(0.0, abs=0.02)
    segmenter.forward = lambda image, boxes: (torch.zeros(1, 16, 16), None)
    # Every pixel costs ln 2 with the factor (1 - 1/2)^2; a quarter are positive (alpha 1/4), the rest not (3/4).
    even = 20 * np.log(2) / 4 * (0.25 * 0.25 + 0.75 * 0.75)
    assert segmenter.losses(image, [sample])['loss_focal'].item() == pytest.approx(even, rel=1e-5)
    area, size = 32 * 32, 64 * 64
    dice = 1 - (2 * 0.5 * area + 1) / (0.5 * size + area + 1)
    found = segmenter.losses(image, [sample])['loss_mask_dice'].item()
    assert found == pytest.approx(dice, abs=2e-3)


def test_images_without_labels_are_left_out_and_keep_the_graph(network, batch):
    images, samples = batch
    samples[0].gt_instances = samples[0].gt_instances[:0]
    adapter = adapter_for(network)
    assert adapter.partial_loss
    network.eval()  # without random depth and dropout
    torch.manual_seed(0)
    kept = adapter.loss(network, images, samples, [1])
    torch.manual_seed(0)
    both = adapter.loss(network, images, samples, [0, 1])
    assert kept['loss_focal'] == both['loss_focal']
    assert kept['loss_cls'] < both['loss_cls']
    nothing = sum(adapter.loss(network, images, samples, []).values())
    assert nothing.item() == 0
    nothing.backward()
    idle = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    assert network.segmenter.losses(images[:1], samples[:1])['loss_focal'].item() == 0


# ---- first weights --------------------------------------------------------------------------------------------------


def test_weights_config_and_tokenizer_come_from_folders(tokenizer, network, tmp_path):
    network.detector.network.save_pretrained(tmp_path / 'detector')
    make_tokenizer(tmp_path / 'detector')
    network.segmenter.network.save_pretrained(tmp_path / 'segmenter')
    config = tiny_foundation(tokenizer)
    config['detector'] = dict(
        type='castkd.GroundingDINO', classes=CLASSES, weights=str(tmp_path / 'detector')
    )
    config['segmenter'] = dict(type='castkd.SAM2', weights=str(tmp_path / 'segmenter'))
    teacher = FoundationTeacher(config)
    teacher.load()
    assert teacher.classes == CLASSES
    assert teacher.provenance()['segmenter'] == str(tmp_path / 'segmenter')
    wanted = network.state_dict()
    for key, value in teacher.model.state_dict().items():
        assert torch.equal(value, wanted[key]), key
    assert not any(value.requires_grad for value in teacher.model.parameters())


def test_weights_saved_as_those_of_the_video_model_are_read(network, tmp_path):
    """The public files of SAM 2.1 are of that kind."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    config = network.segmenter.network.config.to_dict()
    parts = ('vision_config', 'prompt_encoder_config', 'mask_decoder_config')
    options = {key: config[key] for key in parts}
    sizes = dict(
        memory_attention_hidden_size=32,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=16,
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=16,
        image_size=64,
    )
    video = Sam2VideoModel(Sam2VideoConfig(**options, **sizes))
    video.save_pretrained(tmp_path)
    segmenter = build_model(dict(type='castkd.SAM2', weights=str(tmp_path)))
    segmenter.init_weights()
    wanted = video.state_dict()
    for key, value in segmenter.network.state_dict().items():
        assert torch.equal(value, wanted[key]), key


@pytest.mark.parametrize('part', ['detector', 'segmenter'])
def test_weights_that_are_not_there_are_one_line(tokenizer, tmp_path, part):
    config = tiny_foundation(tokenizer)
    config[part].pop('config')
    config[part]['weights'] = str(tmp_path / 'nowhere')
    with pytest.raises(CheckpointError, match='nowhere') as caught:
        build_model(config)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('part', 'options', 'message'),
    [
        ('detector', dict(tokenizer=None), 'give weights, or config and tokenizer'),
        ('detector', dict(score_thr=2), 'score_thr must be'),
        ('detector', dict(config=dict(model_type='bert')), r'config\.model_type must be one of'),
        ('detector', dict(config=detector_config(two_stage=False)), 'two_stage must be True'),
        ('segmenter', dict(config=None), 'give weights or config'),
        ('segmenter', dict(boxes_per_run=0), 'boxes_per_run must be'),
    ],
)
def test_wrong_options_are_one_line(tokenizer, part, options, message):
    config = tiny_foundation(tokenizer)
    config[part].update(options)
    with pytest.raises(ConfigError, match=message) as caught:
        build_model(config)
    assert '\n' not in str(caught.value)


# ---- in a distiller -------------------------------------------------------------------------------------------------


def test_it_labels_in_the_step_for_another_student(tokenizer):
    model = build_model(
        dict(
            type='castkd.Distiller',
            student=tiny_mask2former(),
            teachers=dict(
                big=dict(type='castkd.FoundationTeacher', model=tiny_foundation(tokenizer))
            ),
            classes=CLASSES,
            pseudo_labeler=dict(type='castkd.InstancePseudoLabeler', score_thr=0.0),
            objectives=dict(unsup=dict(type='castkd.PseudoLabel', teacher='big')),
        )
    )
    teacher = model.teachers['big']
    teacher.load()
    teacher.connect(model.student, model.classes)
    inputs, samples = make_batch(['unsup_teacher', 'unsup_student'])
    total, log = model.parse_losses(model(inputs, samples, mode='loss'))
    assert torch.isfinite(total)
    assert log['pseudo.kept'] > 0
    assert not any(key.startswith('teachers.') for key in model.state_dict())
    request = Pass('big', 'unsup_teacher', 'encode', ('detector.network.model.backbone[0]',))
    taps = teacher.run(request, inputs['unsup_teacher'], samples['unsup_teacher']).taps
    assert len(taps['detector.network.model.backbone[0]']) == 3


def test_it_is_adapted_as_the_student_of_a_distiller(tokenizer):
    """Stages 1a and 1c: its own losses on labels and pseudo-labels, and the contrast on its image feature."""
    model = build_model(adapted(tiny_foundation(tokenizer), FOUNDATION_FEATURE))
    model.train()
    inputs, samples = make_batch(['sup', 'sup_strong', 'unsup_teacher', 'unsup_student'], size=128)
    # One pseudo-labelled image without any label: no set loss from it, but the contrast sees it.
    samples['unsup_teacher'][1].gt_instances = samples['unsup_teacher'][1].gt_instances[:0]
    runs = {(item.network, item.view, item.kind) for item in model.plan()}
    assert runs == {
        ('student', 'sup', 'loss'),
        ('student', 'unsup_teacher', 'loss'),
        ('student', 'sup_strong', 'encode'),
        ('student', 'unsup_student', 'encode'),
    }
    total, log = model.parse_losses(model(inputs, samples, mode='loss'))
    total.backward()
    assert {'sup.loss_cls', 'unsup.loss_focal', 'cast.loss_pixel', 'cast.separation'} <= set(log)
    check_gradients(model)
    again = build_model(dict(type='castkd.Distiller', student=tiny_foundation(tokenizer)))
    state = {key: value for key, value in model.state_dict().items() if 'objectives' not in key}
    again.load_state_dict(state)


def test_a_teacher_in_less_memory_learns_the_same(tokenizer):
    patterns = FOUNDATION_LAYERS
    config = adapted(tiny_foundation(tokenizer), FOUNDATION_FEATURE)
    plain, frugal = (
        build_model(config),
        build_model({**config, 'activation_checkpointing': patterns}),
    )
    frugal.load_state_dict(plain.state_dict())
    inputs, samples = make_batch(['sup', 'sup_strong', 'unsup_teacher', 'unsup_student'], size=128)
    kept, gradients = [], []
    for model in (plain, frugal):
        sizes = []
        torch.manual_seed(0)
        with saved_tensors_hooks(
            lambda value, sizes=sizes: sizes.append(value.numel()) or value, lambda value: value
        ):
            losses = model.train()(inputs, copy.deepcopy(samples), mode='loss')
            model.parse_losses(losses)[0].backward()
        kept.append(sum(sizes))
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    assert kept[1] < kept[0]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_the_contrast_alone_trains_the_image_backbone(tokenizer):
    """T17 for the teacher: neither decoder, nor text, nor segmenter."""
    model = build_model(
        dict(
            type='castkd.Distiller',
            student=tiny_foundation(tokenizer),
            objectives=dict(
                cast=dict(
                    type='castkd.InstanceContrast',
                    views=[('sup', 'sup_strong')],
                    feature=FOUNDATION_FEATURE,
                    queries=dict(type='castkd.BoxQueries', num_queries=5, size=(16, 16)),
                    projector=dict(type='castkd.ProjectionHead', in_channels=64),
                    loss=dict(type='castkd.InstancePixelContrast', num_negatives=8),
                )
            ),
        )
    )
    total, _ = model.parse_losses(model(*make_batch(['sup', 'sup_strong'], size=128), mode='loss'))
    total.backward()
    trained = {
        name
        for name, value in model.named_parameters()
        if value.grad is not None and value.grad.abs().sum() > 0
    }
    backbone = 'student.detector.network.model.backbone.'
    assert any(name.startswith(backbone) for name in trained)
    assert all(name.startswith((backbone, 'objectives.cast.projector')) for name in trained)


def test_builder_names_the_published_weights():
    config = foundation_segmentor(CLASSES, synonyms={'car': ['car', 'van']}, amp='float16')
    assert config['detector']['weights'] == 'openmmlab-community/mm_grounding_dino_large_all'
    assert config['segmenter']['weights'] == 'facebook/sam2.1-hiera-large'
    assert config['detector']['synonyms'] == {'car': ['car', 'van']}


def test_built_config_fits_the_parts(tokenizer, network, tmp_path):
    network.detector.network.save_pretrained(tmp_path / 'detector')
    make_tokenizer(tmp_path / 'detector')
    network.segmenter.network.save_pretrained(tmp_path / 'segmenter')
    built = build_model(
        foundation_segmentor(
            CLASSES, detector=str(tmp_path / 'detector'), segmenter=str(tmp_path / 'segmenter')
        )
    )
    assert built.state_dict().keys() == network.state_dict().keys()
    assert built.detector.test_scale == (800, 1333)


def test_a_batch_without_any_label_is_finite(network, batch):
    """T28: no target in any image, for the matcher and the losses of both parts."""
    images, samples = batch
    for sample in samples:
        sample.gt_instances = sample.gt_instances[:0]
    losses = network.loss(images, samples)
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses['loss_cls'] > 0
    assert losses['loss_bbox'] == losses['loss_iou'] == losses['loss_focal'] == 0
    nothing = adapter_for(network).loss(network, images, samples, [])
    total = sum(nothing.values())
    assert total.item() == 0
    total.backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
