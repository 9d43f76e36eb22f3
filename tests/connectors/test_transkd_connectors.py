"""The connectors of TransKD: parameter counts, shapes and behaviour of their paper and code."""

import pytest
import torch
from torch import nn

from castkd.connectors import (
    CrossSelectiveFusion,
    EmbeddingAssistant,
    GlobalLocalMixer,
    PatchEmbeddingAlignment,
)
from castkd.errors import ConfigError
from castkd.registry import MODELS

B0, B2 = (32, 64, 160, 256), (64, 128, 320, 512)
LVT = (64, 64, 160, 256)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def maps(channels=(4, 6, 8), size=16, images=2):
    return [
        torch.randn(images, width, size >> stage, size >> stage, requires_grad=True)
        for stage, width in enumerate(channels)
    ]


def small_fusion(**options):
    torch.manual_seed(0)
    return CrossSelectiveFusion(
        (4, 6, 8), (5, 7, 9), mid_channels=6, bottleneck_channels=3, **options
    )


class TestParameterCounts:
    @pytest.mark.parametrize(
        ('norm', 'parameters'), [('switch', 650_304), ('batch', 644_160), ('none', 643_968)]
    )
    def test_fusion(self, norm, parameters):
        assert count(CrossSelectiveFusion(B0, B2, bottleneck_norm=norm)) == parameters

    def test_fusion_by_stage(self):
        fusion = CrossSelectiveFusion(B0, B2)
        selections = [count(module) for module in fusion.selections] + [0]
        stages = [
            count(reduction) + count(expansion) + selection
            for reduction, expansion, selection in zip(
                fusion.reductions, fusion.expansions, selections, strict=True
            )
        ]
        assert stages == [47_552, 86_592, 203_712, 312_448]
        assert selections[0] == 8_384

    def test_alignment_mixer_and_assistant(self):
        alignment = PatchEmbeddingAlignment(B0, B2)
        assert [count(layer) for layer in alignment.layers] == [2_112, 8_320, 51_520, 131_584]
        assert count(GlobalLocalMixer(256)) == 656_130
        assert count(EmbeddingAssistant(B0, B2)) == 970_952

    def test_scales_of_the_assistant(self):
        assist = EmbeddingAssistant(B0, B2)
        torch.testing.assert_close(assist.aligned_scale, torch.tensor([0.1, 0.2, 0.3, 0.4]))
        torch.testing.assert_close(assist.assistant_scale, torch.tensor([0.5, 0.6, 0.7, 0.8]))

    def test_base_for_lvt(self):
        both = CrossSelectiveFusion(LVT, B2), PatchEmbeddingAlignment(LVT, B2)
        assert sum(map(count, both)) == 847_936


class TestCrossSelectiveFusion:
    @pytest.mark.parametrize('size', [(64, 128), (65, 97), (33, 50)])
    def test_shapes_are_the_teachers(self, size):
        grids = []
        for _ in B0:
            grids.append(size)
            size = (-(-size[0] // 2), -(-size[1] // 2))
        given = [torch.randn(1, width, *grid) for width, grid in zip(B0, grids, strict=True)]
        fused = CrossSelectiveFusion(B0, B2)(given)
        assert [tuple(map_.shape) for map_ in fused] == [
            (1, width, *grid) for width, grid in zip(B2, grids, strict=True)
        ]

    @pytest.mark.parametrize('norm', ['switch', 'batch', 'none'])
    @pytest.mark.parametrize('images', [2, 3])
    def test_weights_of_both_sources_sum_to_one(self, norm, images):
        select = small_fusion(bottleneck_norm=norm).selections[0]
        own, deeper = torch.randn(2, images, 6, 4, 5)
        weights = select.weights(own, deeper)
        assert weights[0].shape == weights[1].shape == (images, 6, 1, 1)
        torch.testing.assert_close(sum(weights), torch.ones(images, 6, 1, 1), atol=1e-6, rtol=0)
        assert weights[0].std() > 0

    def test_equal_scores_give_the_mean(self):
        select = small_fusion().selections[0]
        for layer in (select.expand_own, select.expand_deeper):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        own, deeper = torch.randn(2, 2, 6, 4, 5)
        assert torch.equal(select(own, deeper), (own + deeper) / 2)

    def test_a_certain_score_cuts_off_what_is_deeper(self):
        fusion = small_fusion()
        for bias, value in (('expand_own', 1e4), ('expand_deeper', -1e4)):
            nn.init.constant_(getattr(fusion.selections[0], bias).bias, value)
        given = maps()
        fusion(given)[0].square().sum().backward()
        assert given[0].grad.any()
        assert not given[1].grad.any()
        assert not given[2].grad.any()

    def test_shallow_outputs_reach_all_stages_and_deep_ones_only_themselves(self):
        fusion = small_fusion()
        given = maps()
        fusion(given)[0].square().sum().backward()
        assert all(map_.grad.any() for map_ in given)
        given = maps()
        fusion(given)[2].square().sum().backward()
        assert [map_.grad is not None for map_ in given] == [False, False, True]

    def test_what_is_carried_is_the_fused_map_enlarged_without_interpolation(self):
        fusion, given = small_fusion(), maps()
        seen = []
        for select in fusion.selections:
            select.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
        fusion(given)
        (_, deepest, middle), (_, carried, _) = seen
        reduced = fusion.reductions[2](given[2])
        torch.testing.assert_close(deepest, reduced.repeat_interleave(2, 2).repeat_interleave(2, 3))
        assert torch.equal(carried, middle.repeat_interleave(2, 2).repeat_interleave(2, 3))

    def test_one_image_takes_the_bottleneck_without_norm(self):
        select = small_fusion().selections[0]
        own, deeper = torch.randn(2, 1, 6, 4, 5)
        expected = select.plain((own + deeper).mean(dim=(2, 3), keepdim=True))
        torch.testing.assert_close(
            select.weights(own, deeper)[0],
            (select.expand_own(expected) - select.expand_deeper(expected)).sigmoid(),
        )

    @pytest.mark.parametrize('images', [1, 2])
    @pytest.mark.parametrize('norm', ['switch', 'none'])
    def test_every_parameter_is_in_the_graph(self, images, norm):
        fusion = small_fusion(bottleneck_norm=norm)
        sum(map_.square().sum() for map_ in fusion(maps(images=images))).backward()
        assert all(parameter.grad is not None for parameter in fusion.parameters())

    def test_one_image_is_refused_where_a_norm_is_asked_for(self):
        fusion = small_fusion(bottleneck_norm='batch')
        with pytest.raises(ConfigError, match=r"'batch' needs at least two images.*use 'none'"):
            fusion(maps(images=1))
        fusion.eval()(maps(images=1))

    def test_wrong_input_is_named(self):
        with pytest.raises(ConfigError, match='3 feature maps are wanted, one per stage, got 2'):
            small_fusion()(maps()[:2])
        with pytest.raises(ConfigError, match=r'stage 2 must be \(B, 6, h, w\), got .*taps'):
            small_fusion()(maps((4, 7, 8)))
        with pytest.raises(ConfigError, match='width of the same stages'):
            CrossSelectiveFusion((4, 6), (8,))
        with pytest.raises(ConfigError, match=r'teacher_channels\[1\] must be an integer'):
            CrossSelectiveFusion((4, 6), (8, 0))
        with pytest.raises(ConfigError, match='bottleneck_norm must be one of'):
            small_fusion(bottleneck_norm='layer')


class TestPatchEmbeddingAlignment:
    def test_is_linear_token_by_token(self):
        align = PatchEmbeddingAlignment((4, 6), (5, 7))
        given = [torch.randn(2, 12, 4), torch.randn(2, 3, 6)]
        for layer, value, output in zip(align.layers, given, align(given), strict=True):
            torch.testing.assert_close(output, value @ layer.weight.T + layer.bias)

    def test_wrong_input_is_named(self):
        with pytest.raises(ConfigError, match=r'stage 1 must be \(B, N, 4\), got \(2, 4, 3, 3\)'):
            PatchEmbeddingAlignment((4,), (5,))([torch.randn(2, 4, 3, 3)])


class TestGlobalLocalMixer:
    def build(self, **options):
        torch.manual_seed(0)
        return GlobalLocalMixer(12, num_heads=3, **options).double()

    def test_starts_finite_and_even(self):
        assert GlobalLocalMixer(8).statistics() == {'global_weight': 0.5, 'local_weight': 0.5}

    def test_global_branch_is_multi_head_self_attention(self):
        mixer = self.build(global_weight=1.0, local_weight=0.0)
        other = nn.MultiheadAttention(12, 3, batch_first=True).double()
        with torch.no_grad():
            other.in_proj_weight.copy_(mixer.qkv.weight)
            other.in_proj_bias.zero_()
            other.out_proj.weight.copy_(mixer.output.weight)
            other.out_proj.bias.copy_(mixer.output.bias)
        tokens = torch.randn(2, 7, 12, dtype=torch.float64)
        torch.testing.assert_close(mixer(tokens), other(tokens, tokens, tokens)[0])

    def test_local_branch_sees_neighbours_only(self):
        mixer = self.build(global_weight=0.0, local_weight=1.0)
        tokens = torch.randn(1, 9, 12, dtype=torch.float64)
        changed = tokens.clone()
        changed[0, 4] += 1
        different = (mixer(tokens) != mixer(changed)).any(dim=2)[0]
        assert different.nonzero().flatten().tolist() == [3, 4, 5]

    def test_a_gate_without_weights_halves_the_convolution(self):
        mixer = self.build(global_weight=0.0, local_weight=1.0)
        nn.init.zeros_(mixer.gate.weight)
        nn.init.zeros_(mixer.gate.bias)
        tokens = torch.randn(2, 9, 12, dtype=torch.float64)
        expected = mixer.value(tokens.transpose(1, 2)).transpose(1, 2) / 2
        torch.testing.assert_close(mixer(tokens), expected)

    def test_residual_adds_the_input(self):
        tokens = torch.randn(2, 9, 12, dtype=torch.float64)
        plain, residual = self.build(), self.build(residual=True)
        torch.testing.assert_close(residual(tokens), plain(tokens) + tokens)

    def test_wrong_option_is_named(self):
        with pytest.raises(ConfigError, match='multiple of num_heads, got 12 and 8'):
            GlobalLocalMixer(12)
        with pytest.raises(ConfigError, match='global_weight must be a number'):
            GlobalLocalMixer(8, global_weight='large')


class TestEmbeddingAssistant:
    # Odd sizes round up, as the strides of the networks do.
    def inputs(self):
        return [torch.randn(2, 3, 45, 70), torch.randn(2, 4, 12, 18)]

    def aligned(self):
        return [torch.randn(2, 12 * 18, 5), torch.randn(2, 6 * 9, 7)]

    def test_starts_with_the_published_mixture(self):
        assist = EmbeddingAssistant((4, 6), (5, 7))
        aligned, inputs = self.aligned(), self.inputs()
        fused = assist(aligned, inputs)
        sizes = [(7, 4, 3), (3, 2, 1)]
        for stage, (kernel, stride, padding) in enumerate(sizes):
            layer = assist.embeddings[stage]
            assert layer.projection.weight.shape[-1] == kernel
            made = nn.functional.conv2d(
                inputs[stage], layer.projection.weight, stride=stride, padding=padding
            )
            made = nn.functional.layer_norm(made.flatten(2).mT, made.shape[1:2])
            expected = 0.1 * (stage + 1) * aligned[stage] + (0.5 + 0.1 * stage) * made
            torch.testing.assert_close(fused[stage], expected, atol=1e-5, rtol=1e-5)

    def test_every_scalar_is_trained(self):
        assist = EmbeddingAssistant((4, 6), (5, 7))
        sum(tokens.square().sum() for tokens in assist(self.aligned(), self.inputs())).backward()
        assert assist.aligned_scale.grad.all()
        assert assist.assistant_scale.grad.all()
        assert list(assist.statistics()) == [
            'aligned_scale_s1',
            'aligned_scale_s2',
            'assistant_scale_s1',
            'assistant_scale_s2',
        ]

    def test_wrong_input_is_named(self):
        assist = EmbeddingAssistant((4, 6), (5, 7))
        aligned = self.aligned()
        aligned[1] = aligned[1][:, :40]
        with pytest.raises(ConfigError, match=r'stage 2 makes tokens .* strides 4, 2, 2, 2 only'):
            assist(aligned, self.inputs())
        with pytest.raises(ConfigError, match=r'map of stage 1 must be \(B, 3, h, w\)'):
            assist(self.aligned(), self.inputs()[::-1])


@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16])
def test_all_run_under_autocast(device, half):
    channels = {'student_channels': (4, 8), 'teacher_channels': (6, 16)}
    fusion, align, assist, mixer = (
        MODELS.build({'type': f'castkd.{name}', **options}).to(device)
        for name, options in [
            ('CrossSelectiveFusion', channels),
            ('PatchEmbeddingAlignment', channels),
            ('EmbeddingAssistant', channels),
            ('GlobalLocalMixer', {'channels': 8, 'num_heads': 2}),
        ]
    )
    features = [torch.randn(2, 4, 8, 8, device=device), torch.randn(2, 8, 4, 4, device=device)]
    first, second = (map_.flatten(2).mT for map_ in features)
    image = torch.randn(2, 3, 32, 32, device=device)
    with torch.autocast(device.type, half):
        outputs = fusion(features)
        outputs += assist(align([first, mixer(second)]), [image, features[0]])
        total = sum(output.float().square().mean() for output in outputs)
    total.backward()
    for part in (fusion, align, assist, mixer):
        assert all(parameter.grad.isfinite().all() for parameter in part.parameters())
