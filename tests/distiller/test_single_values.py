"""One image a process: a batch norm behind global pooling has nothing to normalise, and says so."""

import pytest
import torch

from castkd.architectures import deeplabv3plus
from castkd.distiller import Distiller
from castkd.errors import ConfigError
from castkd.objectives.base import Objective
from castkd.registry import build_model
from tests.segmentation import CLASSES, CUTMIX, run_step, semantic_batch

NETWORK = deeplabv3plus(CLASSES, 'resnet18', width=0.125, channels=8)
SUP = dict(type='castkd.Supervised')
CPS = dict(type='castkd.CrossPseudoSupervision', peer='second')


def build(**options):
    return Distiller(NETWORK, **options)


def test_the_network_and_the_layer_are_named_and_two_images_are_enough():
    distiller = build(objectives=dict(sup=SUP))
    with pytest.raises(
        ConfigError, match=r'^model\.student\.decode_head\.image_pool\.1\.bn '
    ) as caught:
        run_step(distiller, semantic_batch(labeled=1))
    assert '\n' not in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)
    assert run_step(distiller, semantic_batch(labeled=2))['sup.decode.loss_ce'].isfinite()


def test_a_peer_is_named_too():
    objectives = dict(second=dict(SUP, network='second'))
    distiller = build(peers=dict(second=NETWORK), objectives=objectives)
    with pytest.raises(
        ConfigError, match=r'^model\.peers\.second\.decode_head\.image_pool\.1\.bn '
    ):
        run_step(distiller, semantic_batch(labeled=1))


def test_one_mixed_image_is_refused_as_one_labelled_image_is():
    distiller = build(peers=dict(second=NETWORK), views=CUTMIX, objectives=dict(cps=CPS))
    with pytest.raises(ConfigError, match='image_pool'):
        run_step(distiller, semantic_batch(unlabeled=2))


def test_prediction_needs_no_second_image():
    network = build_model(NETWORK).eval()
    assert network(torch.zeros(1, 3, 32, 32)).isfinite().all()


class Failing(Objective):
    """Fails in a way of its own."""

    def passes(self):
        return []

    def forward(self, step):
        raise ValueError('something else')


def test_other_errors_stay_as_they_are():
    with pytest.raises(ValueError, match=r'^something else$') as caught:
        run_step(build(objectives=dict(other=Failing())), semantic_batch())
    assert not isinstance(caught.value, ConfigError)
