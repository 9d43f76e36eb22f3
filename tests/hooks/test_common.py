"""Finding the distiller of a runner."""

from types import SimpleNamespace

import pytest
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from castkd.errors import ConfigError
from castkd.hooks.common import distiller_of
from tests.hooks.toy import SquareFinder, toy_distiller


@MODEL_WRAPPERS.register_module()
class ToyWrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module


def test_distiller_is_found_in_a_wrapper():
    distiller = toy_distiller()
    assert distiller_of(SimpleNamespace(model=distiller)) is distiller
    assert distiller_of(SimpleNamespace(model=ToyWrapper(distiller))) is distiller


def test_another_model_is_refused():
    with pytest.raises(ConfigError, match=r'need a castkd\.Distiller, but model is a SquareFinder'):
        distiller_of(SimpleNamespace(model=SquareFinder()))
