"""A teacher with the student's classes in another order gives class maps in the student's order, or none."""

import copy

import pytest
import torch

from castkd.architectures import retinanet
from castkd.distiller import Distiller
from castkd.distiller.pseudo_labeler import QueryPseudoLabeler
from castkd.errors import ConfigError
from castkd.registry import build_model
from castkd.structures import Pass, PseudoTargets
from castkd.teachers import Teacher
from tests.builders import make_batch, make_map_sample, tiny_mask2former, tiny_segmentor
from tests.segmentation import CUTMIX, run_step, semantic_batch

LOGITS, HEAD, FEATURE = 'decode_head.conv_seg', 'decode_head', 'decode_head.conv_seg:input'
# Class i of the teacher is class ORDER[i] of the student; not its own inverse.
ORDER = [2, 0, 1]
MAPPING = dict(zip('abc', ('z', 'x', 'y'), strict=True))
SIZE = (32, 48)
KD = dict(type='castkd.Distillation', teacher='big', taps=LOGITS)
KD['loss'] = dict(type='castkd.LogitDistillation')
MGD = dict(type='castkd.MultiGranularity', deeper='big', wider='big')


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    built = build_model(tiny_segmentor()).eval()
    built.init_weights()
    torch.nn.init.normal_(built.decode_head.conv_seg.weight)
    return built


def in_student_order(network):
    """Return the same network with the channels of its classifier where the student has them."""
    moved = copy.deepcopy(network)
    for name in ('weight', 'bias'):
        rows = getattr(moved.decode_head.conv_seg, name).data
        rows[ORDER] = rows.clone()
    return moved


def connected(network, student_classes=('x', 'y', 'z'), mapping=MAPPING, **options):
    teacher = Teacher(
        copy.deepcopy(network), classes=('a', 'b', 'c'), class_mapping=mapping, **options
    )
    teacher.name = 'big'
    teacher.connect(network, student_classes)
    return teacher


def taps_of(teacher, *paths):
    images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    samples = [make_map_sample(shape=SIZE) for _ in images]
    return teacher.run(Pass('big', 'sup', 'forward', paths), images, samples).taps


def test_class_maps_come_in_the_students_order_and_features_as_they_are(network):
    found = taps_of(connected(network), LOGITS, HEAD, FEATURE, 'backbone')
    wanted = taps_of(unmapped(in_student_order(network)), LOGITS, HEAD, FEATURE, 'backbone')
    torch.testing.assert_close(found, wanted)


def unmapped(network):
    return connected(network, ('a', 'b', 'c'), None)


@pytest.mark.parametrize('objective', [KD, MGD], ids=['kd', 'mgd'])
def test_losses_are_those_of_a_teacher_in_the_students_order(network, objective):
    totals = []
    for teacher in (connected(network), unmapped(in_student_order(network)), unmapped(network)):
        torch.manual_seed(3)
        distiller = Distiller(
            tiny_segmentor(),
            teachers=dict(big=teacher),
            views=CUTMIX,
            objectives=dict(kd=objective),
        )
        losses = run_step(distiller, semantic_batch(size=SIZE))
        totals.append(
            {name: float(value.detach()) for name, value in losses.items() if 'loss' in name}
        )
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    assert totals[0] != pytest.approx(totals[2], rel=1e-3)


@pytest.mark.parametrize(
    'mapping',
    [
        {'a': 'x', 'b': None, 'c': 'y'},
        {'a': 'x', 'b': 'x', 'c': 'y'},
    ],
    ids=['left out', 'merged'],
)
def test_classes_that_are_not_the_students_one_to_one_are_refused_where_they_are_compared(
    network, mapping
):
    teacher = connected(network, ('x', 'y'), mapping)
    assert taps_of(teacher, FEATURE)[FEATURE].shape[1] == 16
    with pytest.raises(
        ConfigError, match=rf"'big': tap '{LOGITS}' holds its classes .* one to one"
    ):
        taps_of(teacher, LOGITS)


def test_as_many_classes_of_the_student_as_of_the_teacher_do_not_make_them_equal(network):
    teacher = connected(network, mapping={'a': 'x', 'b': 'y', 'c': None})
    with pytest.raises(ConfigError, match='one to one'):
        taps_of(teacher, HEAD)


def test_a_mapping_without_classes_of_the_student_is_refused(network):
    with pytest.raises(
        ConfigError, match=r'classes of the student are not known; set model\.classes'
    ):
        connected(network, None)


def detector(student_classes, model=None):
    mapping = {'a': 'b', 'b': 'a'}
    teacher = Teacher(model or tiny_mask2former(), classes=('a', 'b'), class_mapping=mapping)
    teacher.name = 'big'
    teacher.connect(teacher.model, student_classes)
    return teacher


def test_heads_of_detectors_are_refused_unless_the_reader_maps_the_classes():
    inputs, samples = make_batch(['weak'])
    labeler = QueryPseudoLabeler()
    request = labeler.request(PseudoTargets('big', 'weak'))
    both = request.merge(Pass('big', 'weak', 'encode', ('backbone',)))
    # Another order of the mapping's classes, and by chance the same one.
    other, same = ('a', 'b'), ('b', 'a')
    for student_classes in (other, same):
        taps = detector(student_classes).run(both, inputs['weak'], samples['weak']).taps
        assert set(taps) == {'backbone', *labeler.taps}
    compared = Pass('big', 'weak', 'forward', labeler.taps)
    detector(same).run(compared, inputs['weak'], samples['weak'])
    for merged in (compared, request.merge(compared), compared.merge(request)):
        with pytest.raises(ConfigError, match=r"'big' has other classes .*: tap .* may hold"):
            detector(other).run(merged, inputs['weak'], samples['weak'])


def test_outputs_of_a_dense_head_are_refused():
    """General instance distillation compares them class by class."""
    inputs, samples = make_batch(['weak'])
    request = Pass('big', 'weak', 'dense')
    model = retinanet(2, depth=18, base_channels=8, channels=8, stacked_convs=1)
    run = detector(('b', 'a'), model).run(request, inputs['weak'], samples['weak'])
    assert run.outputs is not None
    with pytest.raises(ConfigError, match=r"'big' has classes \('a', 'b'\), in another order"):
        detector(('a', 'b'), model).run(request, inputs['weak'], samples['weak'])
