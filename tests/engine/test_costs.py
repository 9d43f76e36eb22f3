"""Operations and memory of a step, counted on one image, and what they are worth on a GPU."""

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn

from castkd.activation_checkpointing import checkpoint_activations
from castkd.distiller import Distiller
from castkd.engine.costs import (
    count_prediction,
    count_run,
    count_step,
    load_teachers,
    operation_counter,
)
from castkd.engine.dry_run import plan_stages
from castkd.engine.gpus import GPUS, UTILISATION, find_gpu
from castkd.engine.plans import StageCost, StagePlan, plan_tables
from castkd.engine.recipe import load_recipe
from castkd.errors import ConfigError
from tests.builders import make_sample, square_masks, tiny_mask2former
from tests.distiller.test_ddp import GUIDED
from tests.distiller.test_distiller import OBJECTIVES, VIEWS, build
from tests.engine.toy_project import write_project


def layers():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def test_a_run_by_hand():
    """The ReLU's output is kept once, though the layer behind it keeps it too; weights are there anyway."""
    network = layers()
    cost = count_run(network, lambda: network(torch.randn(3, 4)))
    assert cost.forward == 2 * 3 * (4 * 8 + 8 * 2)
    assert cost.backward == 2 * cost.forward
    assert cost.saved == 4 * 3 * (4 + 8)


def test_frozen_parts_have_no_backward_run():
    network = layers()
    network[0].requires_grad_(False)
    cost = count_run(network, lambda: network(torch.randn(3, 4)))
    assert cost.forward == 2 * 3 * (4 * 8 + 8 * 2)
    assert cost.backward == 2 * 2 * 3 * 8 * 2
    assert cost.saved == 4 * 3 * 8


def test_recomputed_parts_run_again_and_keep_their_input():
    network = nn.Sequential(nn.Linear(8, 16), nn.Sequential(nn.Linear(16, 16), nn.Tanh()))
    checkpoint_activations(network, ['1'])
    cost = count_run(network, lambda: network(torch.ones(2, 8)))
    first, second = 2 * 2 * 8 * 16, 2 * 2 * 16 * 16
    assert cost.forward == first + second
    assert cost.backward == 2 * first + 3 * second
    assert cost.saved == 4 * (2 * 8 + 2 * 16)  # the input of each layer, and no result of Tanh


def test_a_run_without_gradient_keeps_nothing():
    network = layers()
    cost = count_run(network, lambda: network(torch.randn(3, 4)), grad=False)
    assert cost.forward > 0
    assert (cost.backward, cost.saved) == (0, 0)


def test_attention_is_counted_on_a_cpu():
    """Two products of 5 x 5 x 4 multiply-adds per head."""
    tokens = torch.randn(1, 2, 5, 4)
    cost = count_run(
        nn.Identity(), lambda: F.scaled_dot_product_attention(tokens, tokens, tokens), grad=False
    )
    assert cost.forward == 2 * 2 * 2 * 5 * 5 * 4


def batch_of(images, views=VIEWS):
    """Return a collated batch in which all images are the same."""
    image = torch.randint(0, 256, (3, 64, 64), generator=torch.Generator().manual_seed(0))
    image = image.to(torch.uint8)
    masks = square_masks(64, [(4, 4, 20), (30, 28, 24)])
    return {
        'inputs': {view: [image] * images for view in views},
        'data_samples': {
            view: [make_sample(masks, [0, 1]) for _ in range(images)] for view in views
        },
    }


class Prompts(nn.Module):
    """Gives a view of its weights, as SAM 2's encoder of prompts does."""

    def __init__(self):
        super().__init__()
        self.empty = nn.Embedding(1, 4)

    def forward(self, boxes):
        return boxes @ self.empty.weight.mT, self.empty.weight.reshape(1, 4, 1, 1).expand(
            2, -1, 3, 3
        )


@torch.no_grad()
def test_a_module_that_gives_its_weights_is_counted():
    with operation_counter() as counter:
        Prompts()(torch.ones(2, 4))
    assert counter.get_total_flops() == 2 * 2 * 4


def test_a_step_is_the_sum_of_its_runs():
    distiller = build()
    one, three = (count_step(distiller, batch_of(images)) for images in (1, 3))
    assert three.operations == pytest.approx(3 * one.operations)
    assert three.saved == pytest.approx(3 * one.saved)
    without = build({key: OBJECTIVES[key] for key in ('sup', 'unsup')})
    plain = count_step(without, batch_of(1))
    image = torch.randn(1, 3, 64, 64)
    encode = count_run(without.student, lambda: without.student.extract_feat(image), grad=False)
    # The contrast adds two runs of the encoder without gradient, and no more: its loss is not counted.
    assert one.operations == pytest.approx(plain.operations + 2 * encode.forward)
    assert one.saved == plain.saved > 0


def test_a_step_is_counted_with_the_weights_of_that_step():
    later = dict(type='Window', value=1.0, begin=5)
    objectives = {
        'sup': OBJECTIVES['sup'],
        'unsup': {**OBJECTIVES['unsup'], 'weight': later},
    }
    distiller, batch = build(objectives), batch_of(1)
    first, fifth = (count_step(distiller, batch, index).operations for index in (0, 5))
    assert fifth == pytest.approx(2 * first)


def test_teachers_that_label_in_the_step_are_counted():
    distiller = build(**GUIDED)
    weights = {name: value.clone() for name, value in distiller.state_dict().items()}
    found = count_step(distiller, batch_of(2))
    alone = count_step(build({'sup': GUIDED['objectives']['sup']}), batch_of(2))
    # Two losses and a teacher's forward run against one loss.
    assert 2 * alone.operations < found.operations < 3 * alone.operations
    for name, value in distiller.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_hours_follow_from_the_peak():
    gpu = find_gpu('H100')
    assert gpu.seconds(989e12, amp=True) == pytest.approx(1 / UTILISATION)
    assert gpu.seconds(67e12, amp=False) == pytest.approx(1 / UTILISATION)
    with pytest.raises(ConfigError, match=r"--gpu: name must be one of .*got 'H10'.*'H100'"):
        find_gpu('H10')


def text_of(plans):
    console = Console(width=200, record=True, file=io.StringIO())
    for table in plan_tables('recipe.py', plans):
        console.print(table)
    return console.export_text()


def test_a_plan_for_a_gpu_trains_nothing(tmp_path, monkeypatch):
    recipe = load_recipe(write_project(tmp_path), work_dir=tmp_path / 'w', amp=True)
    monkeypatch.setattr('castkd.engine.dry_run.time_training', None)
    monkeypatch.setattr('castkd.engine.dry_run.time_prediction', None)
    gpu = GPUS['A100']
    plans = plan_stages(recipe, recipe.stages, gpu)
    first = plans[0]
    # One multiply-add per image forward, two backward; two images a step.
    assert first.cost.step_operations == 2 * (2 + 4)
    assert first.cost.image_operations == 2
    assert first.seconds_per_step == gpu.seconds(12, amp=True)
    assert first.seconds_per_image == gpu.seconds(2, amp=False)
    # Two weights with gradient and two moments, and what is kept of two images, half of it.
    assert first.cost.step_bytes >= 4 * 2 * 4
    text = text_of(plans)
    assert 'GPU hours' in text
    assert 'An estimate, nothing was measured on this GPU (A100)' in text.replace('\n', ' ')


@pytest.mark.parametrize(('options', 'runs'), [({}, 1), ({'second.model.width': 3}, 2)])
def test_predictions_of_one_network_are_counted_once(tmp_path, monkeypatch, options, runs):
    counted = []

    def count(model, loader):
        counted.append(model)
        return count_prediction(model, loader)

    monkeypatch.setattr('castkd.engine.dry_run.count_prediction', count)
    recipe = load_recipe(write_project(tmp_path), work_dir=tmp_path / 'w', cfg_options=options)
    first, second = plan_stages(recipe, recipe.stages, GPUS['A100'])
    assert len(counted) == runs
    assert first.cost.image_operations == 2
    assert second.cost.image_operations == 2 * (1 if runs == 1 else 3)


def test_without_a_gpu_there_is_no_cost_table(tmp_path):
    recipe = load_recipe(write_project(tmp_path).with_name('stage.py'), work_dir=tmp_path / 'w')
    assert 'GPU hours' not in text_of(plan_stages(recipe, recipe.stages))


def test_a_step_that_does_not_fit_is_said():
    gpu = GPUS['T4']
    cost = StageCost(step_operations=3e12, step_bytes=20e9, image_operations=2e12)
    plan = StagePlan(
        'adapt', 'train', iterations=10, seconds_per_step=360.0, predictions=0, gpu=gpu, cost=cost
    )
    text = text_of([plan])
    for word in ('20.0 GB, more than the 16 GB of one T4', '1.00', 'on one T4'):
        assert word in text


@pytest.mark.parametrize('known', [None, ('other', 'names')])
def test_a_teacher_without_its_file_counts_as_one_of_the_students_classes(tmp_path, known):
    """What it will predict is known when the stage that trains it is done; classes that are named are checked now."""
    teacher = {
        'type': 'castkd.FrozenTeacher',
        'model': tiny_mask2former(),
        'checkpoint': str(tmp_path / 'later.pth'),
        'classes': known,
    }
    distiller = Distiller(
        student=tiny_mask2former(),
        objectives=copy.deepcopy(OBJECTIVES),
        teachers={'big': teacher},
        classes=('a', 'b'),
    )
    if known:
        with pytest.raises(ConfigError, match='other'):
            load_teachers(distiller)
        return
    load_teachers(distiller)
    assert distiller.teachers['big'].classes == ('a', 'b')
