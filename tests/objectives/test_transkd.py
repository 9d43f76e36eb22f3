"""The TransKD objective on tiny SegFormer and PVTv2 pairs: which term reaches what, and what stays as it is."""

import pytest
import torch

from castkd.architectures import pvt_v2_fpn, segformer, stage_channels
from castkd.distiller import Distiller
from castkd.errors import ConfigError
from castkd.objectives import TransKD
from castkd.registry import build_model
from castkd.structures import PassResult, Step
from tests.builders import make_map_sample

TINY = dict(embed_dims=8, depths=(1, 1, 1, 1), channels=8, drop_path_rate=0.0)
FAMILIES = {'segformer': segformer, 'pvt': pvt_v2_fpn}
CHANNELS = dict(student_channels=stage_channels(8), teacher_channels=stage_channels(16))
FUSION = dict(
    type='castkd.CrossSelectiveFusion',
    mid_channels=8,
    bottleneck_channels=4,
    bottleneck_norm='none',
)
BASE = dict(fusion=FUSION, alignment=dict(type='castkd.PatchEmbeddingAlignment'))
VARIANTS = {
    'base': BASE,
    'gl': dict(BASE, mixer=dict(type='castkd.GlobalLocalMixer', num_heads=4)),
    'ea': dict(BASE, assistant=dict(type='castkd.EmbeddingAssistant')),
}
HCL = [f'loss_hcl_s{stage}' for stage in (1, 2, 3, 4)]
PEA = [f'loss_pea_s{stage}' for stage in (1, 2, 3, 4)]


def network(family='segformer', **options):
    config = FAMILIES[family](3, **{**TINY, **options})
    config['decode_head']['dropout_ratio'] = 0.0
    return config


@pytest.fixture
def teacher_file(tmp_path):
    """Return a function that writes a teacher and gives its config."""

    def write(family='segformer', **options):
        torch.manual_seed(5)
        config = network(family, embed_dims=16, **options)
        teacher = build_model(config)
        teacher.init_weights()
        torch.save({'state_dict': teacher.state_dict(), 'meta': {}}, tmp_path / 'teacher.pth')
        path = str(tmp_path / 'teacher.pth')
        return dict(type='castkd.FrozenTeacher', model=config, checkpoint=path)

    return write


def make_distiller(teacher, family='segformer', variant='base', supervised=True, **options):
    """Return a distiller whose student's first weights depend on the family alone."""
    objectives = dict(sup=dict(type='castkd.Supervised')) if supervised else {}
    objectives['kd'] = dict(
        type='castkd.TransKD', teacher='big', **{**CHANNELS, **VARIANTS[variant], **options}
    )
    distiller = Distiller(network(family), teachers=dict(big=teacher), objectives=objectives)
    distiller.init_weights()
    student = build_model(network(family))
    torch.manual_seed(3)
    student.init_weights()
    distiller.student.load_state_dict(student.state_dict())
    return distiller.train()


def make_batch(size=(64, 96), views=('sup',), images=2, labels=True):
    generator = torch.Generator().manual_seed(0)
    inputs, samples = {}, {}
    for view in views:
        inputs[view] = torch.randn(images, 3, *size, generator=generator)
        maps = torch.randint(0, 3, (images, *size), generator=generator)
        maps[:, :8] = 255
        maps = maps if labels else torch.full_like(maps, 255)
        samples[view] = [make_map_sample(label) for label in maps]
    return inputs, samples


def gradients(module):
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('family', FAMILIES)
def test_a_step_trains_student_and_connectors_and_leaves_the_teacher(family, variant, teacher_file):
    distiller = make_distiller(teacher_file(family), family, variant)
    teacher = distiller.teachers['big']
    before = teacher.fingerprint()
    optimizer = torch.optim.SGD(distiller.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        losses = distiller(*make_batch(), mode='loss')
        assert {f'kd.{name}' for name in HCL + PEA} <= set(losses)
        distiller.parse_losses(losses)[0].backward()
        optimizer.step()
    assert teacher.fingerprint() == before
    assert not any(module.training for module in teacher.model.modules())
    assert not any(name.startswith(('teachers', 'big')) for name in distiller.state_dict())
    found = gradients(distiller)
    assert set(found) == {name for name, _ in distiller.named_parameters()}
    for name, value in found.items():
        assert value.isfinite().all(), name
    for name in ('fusion.reductions.3.0.weight', 'alignment.layers.0.weight'):
        assert found[f'objectives.kd.{name}'].any(), name


@pytest.mark.parametrize(
    ('variant', 'scalars'),
    [('ea', ['aligned_scale', 'assistant_scale']), ('gl', ['global_weight', 'local_weight'])],
)
def test_scalars_are_trained_and_logged(variant, scalars, teacher_file):
    kd = (distiller := make_distiller(teacher_file(), variant=variant)).objectives['kd']
    losses = distiller(*make_batch(), mode='loss')
    distiller.parse_losses(losses)[0].backward()
    part = kd.assistant or kd.mixer
    for name in scalars:
        assert getattr(part, name).grad.all(), name
    assert len([name for name in losses if name.startswith('transkd.')]) == 8 // (
        4 if variant == 'gl' else 1
    )


def test_distillation_does_not_reach_the_decoder(teacher_file):
    distiller = make_distiller(teacher_file(), supervised=False)
    sum(distiller(*make_batch(), mode='loss')[f'kd.{name}'] for name in HCL + PEA).backward()
    assert not any(name.startswith('decode_head') for name in gradients(distiller.student))
    assert gradients(distiller.student.backbone)


@pytest.mark.parametrize(('stage', 'trained'), [(1, [0, 1, 2, 3]), (3, [2, 3]), (4, [3])])
def test_context_loss_of_one_stage_reads_that_stage_and_deeper_ones(stage, trained, teacher_file):
    distiller = make_distiller(teacher_file(), supervised=False)
    distiller(*make_batch(), mode='loss')[f'kd.loss_hcl_s{stage}'].backward()
    fusion = distiller.objectives['kd'].fusion
    assert [index for index in range(4) if gradients(fusion.reductions[index])] == trained
    stages = {name.split('.')[1] for name in gradients(distiller.student.backbone)}
    assert stages == {'0', '1', '2', '3'}


@pytest.mark.parametrize('stage', [1, 2, 3, 4])
def test_embedding_loss_of_one_stage_trains_what_comes_before(stage, teacher_file):
    distiller = make_distiller(teacher_file(), supervised=False)
    distiller(*make_batch(), mode='loss')[f'kd.loss_pea_s{stage}'].backward()
    stages = {int(name.split('.')[1]) for name in gradients(distiller.student.backbone)}
    assert stages == set(range(stage))
    last = list(gradients(distiller.student.backbone.layers[stage - 1]))
    assert all(name.startswith('0.') for name in last), 'its blocks come after its embedding'


def test_four_images_are_learnt(teacher_file):
    distiller = make_distiller(teacher_file(), variant='ea')
    optimizer = torch.optim.AdamW(distiller.parameters(), lr=3e-3)
    batch = make_batch((32, 64), images=4)
    curve = []
    for _ in range(90):
        optimizer.zero_grad()
        losses = distiller(*batch, mode='loss')
        distiller.parse_losses(losses)[0].backward()
        optimizer.step()
        distilled = sum(losses[f'kd.{name}'].item() for name in HCL + PEA)
        curve.append((distilled, losses['sup.decode.loss_ce'].item()))
    (first, plain), (last, learnt) = curve[0], curve[-1]
    assert last < first / 5
    assert learnt < plain


def test_without_weights_training_is_plain_training(teacher_file):
    curves = []
    for weights in (dict(), dict(weight=0), None):
        distiller = make_distiller(teacher_file(), **(weights or {}))
        if weights is None:
            del distiller.objectives['kd']
        optimizer = torch.optim.SGD(distiller.student.parameters(), lr=1e-2)
        curve, decoder = [], None
        for _ in range(3):
            optimizer.zero_grad()
            losses = distiller(*make_batch(), mode='loss')
            distiller.parse_losses(losses)[0].backward()
            decoder = decoder or gradients(distiller.student.decode_head)
            decoder = {name: value.clone() for name, value in decoder.items()}
            optimizer.step()
            curve.append(losses['sup.decode.loss_ce'].item())
        curves.append((curve, decoder))
    (full, first), (zero, second), (plain, third) = curves
    assert zero == plain
    assert full != plain
    for name, value in third.items():
        assert torch.equal(first[name], value), name
        assert torch.equal(second[name], value), name


@pytest.mark.parametrize(
    ('weights', 'names', 'parts'),
    [
        (dict(feature_weight=0), PEA, {'alignment', 'assistant'}),
        (dict(embedding_weights=(0, 0.0, 0, 0)), HCL, {'fusion'}),
        (
            dict(embedding_weights=(0, 1, 0, 1)),
            [*HCL, PEA[1], PEA[3]],
            {'fusion', 'alignment', 'assistant'},
        ),
    ],
    ids=['features', 'embeddings', 'two stages'],
)
def test_a_term_of_weight_zero_is_not_there_and_what_is_left_trains(
    weights, names, parts, teacher_file
):
    distiller = make_distiller(teacher_file(), variant='ea', supervised=False, **weights)
    losses = distiller(*make_batch(), mode='loss')
    found = {name: value for name, value in losses.items() if 'loss' in name}
    assert set(found) == {f'kd.{name}' for name in names}
    assert all(value > 0 for value in found.values())
    full = make_distiller(teacher_file(), variant='ea', supervised=False)
    kd = distiller.objectives['kd']
    full.objectives['kd'].load_state_dict(kd.state_dict(), strict=False)
    if len(parts) == 3:
        whole = full(*make_batch(), mode='loss')
        torch.testing.assert_close(found['kd.loss_pea_s4'], whole['kd.loss_pea_s4'])
    assert {name.split('.')[0] for name, _ in kd.named_parameters()} == parts
    taps = {tap for item in kd.passes() for tap in item.taps}
    assert any('layers' in tap for tap in taps) == ('alignment' in parts)
    assert ('backbone[0]' in taps) == ('fusion' in parts)
    distiller.parse_losses(losses)[0].backward()
    # Without a gradient, distributed training would wait for it.
    assert set(gradients(kd)) == {name for name, _ in kd.named_parameters()}


def test_student_runs_as_it_does_alone(teacher_file):
    distiller = make_distiller(teacher_file(), variant='ea')
    inputs, samples = make_batch()
    alone = build_model(network())
    alone.load_state_dict(distiller.student.state_dict())
    expected = alone.train().loss(inputs['sup'], samples['sup'])['decode.loss_ce']
    actual = distiller(inputs, samples, mode='loss')['sup.decode.loss_ce']
    assert torch.equal(actual, expected)


@pytest.mark.parametrize('family', FAMILIES)
def test_student_predicts_as_it_does_alone(family, teacher_file):
    distiller = make_distiller(teacher_file(family), family, 'ea')
    inputs, samples = make_batch()
    # After a step, whose batch norms have seen something.
    distiller.parse_losses(distiller(inputs, samples, mode='loss'))[0].backward()
    alone = build_model(network(family))
    alone.load_state_dict(distiller.student.state_dict())
    distiller.eval()
    alone.eval()
    with torch.no_grad():
        logits = [item(inputs['sup'], samples['sup'], mode='tensor') for item in (distiller, alone)]
        found, expected = (
            item(inputs['sup'], samples['sup'], mode='predict') for item in (distiller, alone)
        )
    assert torch.equal(*logits)
    for first, second in zip(found, expected, strict=True):
        assert torch.equal(first.seg_logits.data, second.seg_logits.data)
        assert torch.equal(first.pred_sem_seg.data, second.pred_sem_seg.data)


@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('size', [(65, 97), (50, 71)])
def test_odd_crop_sizes(family, size, teacher_file):
    distiller = make_distiller(teacher_file(family), family, 'ea')
    total, _ = distiller.parse_losses(distiller(*make_batch(size), mode='loss'))
    total.backward()
    assert total.isfinite()


def test_images_without_any_label_still_distil(teacher_file):
    distiller = make_distiller(teacher_file(), views=('sup', 'unsup_teacher'))
    batch = make_batch(views=('sup', 'unsup_teacher'), labels=False)
    losses = distiller(*batch, mode='loss')
    total, _ = distiller.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert losses['sup.decode.loss_ce'] == 0
    assert all(losses[f'kd.{name}'] > 0 for name in HCL + PEA)


def test_several_views_count_by_their_images(teacher_file):
    distiller = make_distiller(
        teacher_file(), supervised=False, views=('sup', 'unsup_teacher'), fusion=None
    )
    inputs, samples = make_batch(views=('sup', 'unsup_teacher'), images=3)
    inputs['sup'], samples['sup'] = inputs['sup'][:1], samples['sup'][:1]
    both = distiller(inputs, samples, mode='loss')
    joined = torch.cat(list(inputs.values()))
    distiller.objectives['kd'].views = ('sup',)
    distiller._plans.clear()
    one = distiller(
        {'sup': joined}, {'sup': samples['sup'] + samples['unsup_teacher']}, mode='loss'
    )
    assert set(one) == set(both) == {f'kd.{name}' for name in PEA}
    for name, value in one.items():
        torch.testing.assert_close(both[name], value)


def test_a_teacher_on_another_grid_is_averaged(teacher_file):
    config = teacher_file()
    # Its first embedding has stride 2: every map is twice as large as the student's.
    config['model']['backbone']['strides'] = [2, 2, 2, 2]
    distiller = make_distiller(config, variant='ea')
    losses = distiller(*make_batch(), mode='loss')
    distiller.parse_losses(losses)[0].backward()
    assert torch.isfinite(sum(losses[f'kd.{name}'] for name in HCL + PEA))


class Given(torch.nn.Module):
    """Stands for a connector and returns what it was told."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def forward(self, _):
        return self.values


def plain_step(student, teacher):
    step = Step(0, {}, {'sup': [None]})
    step.results['student', 'sup'] = PassResult(taps=student)
    step.results['big', 'sup'] = PassResult(taps=teacher)
    return step


def test_values_and_weights():
    grids = [(8, 8), (4, 4), (2, 2), (1, 1)]
    taps = {
        f'backbone.layers.{i}.0': (torch.randn(1, h * w, 5), (h, w))
        for i, (h, w) in enumerate(grids)
    }
    taps |= {f'backbone[{i}]': torch.randn(1, 5, *grid) for i, grid in enumerate(grids)}
    objective = TransKD(
        'big',
        (5,) * 4,
        (5,) * 4,
        fusion=Given([taps[f'backbone[{i}]'] + 0.3 for i in range(4)]),
        alignment=Given([taps[f'backbone.layers.{i}.0'][0] + 0.2 for i in range(4)]),
        feature_weight=2.0,
    )
    losses = objective(plain_step(taps, taps))
    for name in HCL:
        assert losses[name].item() == pytest.approx(2 * 0.09, abs=1e-6)
    assert sum(losses[name] for name in PEA).item() == pytest.approx(1.7 * 0.04, abs=1e-6)
    for name, weight in zip(PEA, (0.1, 0.1, 0.5, 1.0), strict=True):
        assert losses[name].item() == pytest.approx(weight * 0.04, abs=1e-6)


def test_a_fine_and_a_coarse_teacher_are_averaged_by_position():
    student = {f'backbone.layers.{i}.0': (torch.zeros(1, 6, 2), (2, 3)) for i in range(2)}
    fine = torch.arange(24.0).view(1, 1, 4, 6).expand(1, 2, 4, 6)
    # Means of the 2 x 2 windows.
    means = torch.tensor([3.5, 5.5, 7.5, 15.5, 17.5, 19.5])[None, :, None].expand(1, 6, 2)
    teacher = {
        'backbone.layers.0.0': (fine.flatten(2).mT, (4, 6)),
        'backbone.layers.1.0': (torch.full((1, 1, 2), 3.0), (1, 1)),
    }
    objective = TransKD(
        'big',
        (2, 2),
        (2, 2),
        alignment=Given([means + 0.5, torch.full((1, 6, 2), 1.0)]),
        embedding_weights=(1, 1),
        feature_taps=('backbone[0]', 'backbone[1]'),
        embedding_taps=('backbone.layers.0.0', 'backbone.layers.1.0'),
    )
    losses = objective(plain_step(student, teacher))
    assert losses['loss_pea_s1'].item() == pytest.approx(0.25)
    assert losses['loss_pea_s2'].item() == pytest.approx(4.0)


def test_published_sizes_add_up():
    channels = dict(student_channels=stage_channels(32), teacher_channels=stage_channels(64))
    parts = dict(
        fusion=dict(type='castkd.CrossSelectiveFusion'),
        alignment=dict(type='castkd.PatchEmbeddingAlignment'),
    )
    student = 3_719_284  # of the published code, 20 outputs
    for extra, total in [
        ({}, 4_563_124),
        (dict(mixer=dict(type='castkd.GlobalLocalMixer')), 5_219_254),
        (dict(assistant=dict(type='castkd.EmbeddingAssistant')), 5_534_076),
    ]:
        objective = TransKD('big', **channels, **parts, **extra)
        assert student + sum(value.numel() for value in objective.parameters()) == total


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(fusion=None, alignment=None), 'nothing is compared; set fusion'),
        (dict(alignment=None, mixer=dict(type='castkd.GlobalLocalMixer')), 'mixer works on patch'),
        (dict(embedding_weights=(1, 1)), 'embedding_weights must name one value for each of the 4'),
        (dict(feature_taps=('backbone[0]',)), 'feature_taps must name one value'),
        (
            dict(feature_weight=0, embedding_weights=(0, 0, 0, 0)),
            'nothing is compared; .* with weights above 0',
        ),
        (dict(feature_weight=-1), 'feature_weight must be a number in'),
        (dict(embedding_weights=(1, 1, -1, 1)), r'embedding_weights\[2\] must be a number in'),
    ],
)
def test_wrong_option_is_named(options, text):
    with pytest.raises(ConfigError, match=f'TransKD: {text}'):
        TransKD('big', **CHANNELS, **{**BASE, **options})


def test_wrong_taps_and_channels_are_named(teacher_file):
    taps = tuple(f'backbone.layers.{stage}.2' for stage in range(4))
    with pytest.raises(
        ConfigError, match=r"tap 'backbone.layers.0.2' must give \(tokens, \(h, w\)\)"
    ):
        make_distiller(teacher_file(), embedding_taps=taps)(*make_batch(), mode='loss')
    distiller = make_distiller(teacher_file(), teacher_channels=stage_channels(24))
    with pytest.raises(ConfigError, match='student has 24 channels and teacher 16'):
        distiller(*make_batch(), mode='loss')
