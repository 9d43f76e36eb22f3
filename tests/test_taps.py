"""Taps read named tensors of a forward pass."""

import pytest
import torch
from torch import nn

from castkd.errors import ConfigError
from castkd.taps import Tap, record_taps


class Network(nn.Module):
    """Two levels and a head that is shared by them."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1))
        self.levels = Levels()
        self.unused = nn.Linear(1, 1)

    def forward(self, image):
        return self.levels(self.backbone(image))


class Levels(nn.Module):
    """Gives nested output and calls its classifier once per level."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Conv2d(5, 2, 1)

    def forward(self, feature):
        return [self.classifier(feature), self.classifier(feature[..., ::2])], feature.sum()


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network()


def test_output_input_and_element(network):
    image = torch.rand(1, 3, 4, 4)
    paths = ('backbone.0', 'backbone.1:input', 'levels[0][-1]', 'levels.classifier')
    with record_taps(network, paths) as values:
        outputs, _ = network(image)
    assert torch.equal(values['backbone.0'], values['backbone.1:input'])
    assert torch.equal(values['levels[0][-1]'], outputs[1])
    assert [value.shape[-1] for value in values['levels.classifier']] == [4, 2]


def test_hooks_are_removed_even_after_an_error(network):
    with pytest.raises(RuntimeError), record_taps(network, ('backbone.0',)):
        raise RuntimeError
    assert not network.backbone[0]._forward_hooks


def test_unknown_module_lists_near_names(network):
    with pytest.raises(ConfigError, match=r"no module 'backbon\.0'.*'backbone\.0'"):
        Tap.parse('backbon.0').resolve(network)


@pytest.mark.parametrize('path', ['', 'a b', 'backbone[x]', 'backbone[0', 'backbone:grad'])
def test_malformed_path(path):
    with pytest.raises(ConfigError, match='not of the form'):
        Tap.parse(path)


def test_index_outside_output(network):
    with (
        pytest.raises(ConfigError, match=r'levels\[0\]\[7\].*outside the output of 2'),
        record_taps(network, ('levels[0][7]',)),
    ):
        network(torch.rand(1, 3, 4, 4))


def test_module_that_does_not_run(network):
    with (
        pytest.raises(ConfigError, match=r"'unused'.*not reached"),
        record_taps(network, ('unused',)),
    ):
        network(torch.rand(1, 3, 4, 4))
