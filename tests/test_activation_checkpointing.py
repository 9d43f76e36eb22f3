"""Modules that compute their activations again in the backward run."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from castkd.activation_checkpointing import checkpoint_activations
from castkd.errors import ConfigError


class Layer(nn.Module):
    """Counts its runs; its scale comes by keyword, as in the layers of the transformers library."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.5)
        self.runs = 0

    def forward(self, values, *, scale=1.0):
        self.runs += 1
        return self.dropout(torch.tanh(self.linear(values) * scale))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.head = nn.Linear(8, 1)

    def forward(self, values):
        for layer in self.layers:
            values = layer(values, scale=2.0)
        return self.head(values).square().mean()


@pytest.fixture
def pair():
    torch.manual_seed(0)
    plain = Stack()
    frugal = copy.deepcopy(plain)
    checkpoint_activations(frugal, ['layers.*'])
    return plain, frugal


def gradients(network):
    torch.manual_seed(1)
    network(torch.ones(4, 8)).backward()
    return {name: value.grad for name, value in network.named_parameters()}


def kept(network):
    sizes = []
    with saved_tensors_hooks(
        lambda value: sizes.append(value.numel()) or value, lambda value: value
    ):
        network(torch.ones(4, 8))
    return sum(sizes)


def test_gradients_are_the_same_and_less_is_kept(pair):
    plain, frugal = pair
    assert plain.state_dict().keys() == frugal.state_dict().keys()
    assert kept(frugal) < 0.7 * kept(plain)
    torch.testing.assert_close(gradients(frugal), gradients(plain), rtol=0, atol=0)
    assert {layer.runs for layer in plain.layers} == {2}  # one of kept(), one here
    assert {layer.runs for layer in frugal.layers} == {3}


def test_predictions_run_once(pair):
    _, frugal = pair
    with torch.no_grad():
        frugal(torch.ones(4, 8))
    assert {layer.runs for layer in frugal.layers} == {1}


def test_a_copy_has_weights_of_its_own(pair):
    _, frugal = pair
    other = copy.deepcopy(frugal)
    nn.init.zeros_(other.layers[0].linear.weight)
    gradients(other)
    assert {layer.runs for layer in frugal.layers} == {0}
    assert frugal.layers[0].linear.weight.grad is None
    assert isinstance(other.layers[0], Layer)


def test_only_the_outermost_of_the_chosen_runs_again():
    network = Stack()
    checkpoint_activations(network, ['*', 'head'])
    network(torch.ones(4, 8)).backward()
    assert {layer.runs for layer in network.layers} == {2}


@pytest.mark.parametrize(
    ('pattern', 'message'),
    [
        ('layer.*', r"Stack has no module 'layer\.\*'; did you mean 'layers"),
        (
            'norm',
            "'norm' has the norm 'itself', whose running statistics would count each batch twice",
        ),
    ],
)
def test_what_cannot_run_again_is_refused(pattern, message):
    network = Stack()
    network.norm = nn.BatchNorm1d(8)
    with pytest.raises(ConfigError, match=message):
        checkpoint_activations(network, [pattern])
