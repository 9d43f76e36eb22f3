"""Teachers: loaded strictly, frozen, converted to, mapped from, averaged."""

import copy

import pytest
import torch
from torch import nn

from castkd.adapters import adapter_for
from castkd.errors import CheckpointError, ConfigError
from castkd.hooks.preflight import check_frozen
from castkd.registry import MODELS, build_model
from castkd.structures import Pass
from castkd.teachers import EMATeacher, FrozenTeacher, Teacher, TeacherBank
from castkd.teachers.normalization import InputConverter
from tests.builders import make_batch, tiny_mask2former, tiny_segmentor
from tests.segmentation import semantic_batch, teacher_file


@pytest.fixture(scope='module')
def student():
    torch.manual_seed(0)
    network = build_model(tiny_mask2former())
    network.init_weights()
    return network


@pytest.fixture
def checkpoint(student, tmp_path):
    path = tmp_path / 'teacher.pth'
    torch.save(
        {'state_dict': student.state_dict(), 'meta': {'dataset_meta': {'classes': ('car', 'bus')}}},
        path,
    )
    return path


class Batch(nn.Module):
    """Weights, a batch norm with an integer buffer."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), float(value)))
        self.norm = nn.BatchNorm1d(2)
        self.norm.running_mean.fill_(float(value))
        self.norm.num_batches_tracked.fill_(int(value))
        self.data_preprocessor = nn.Identity()


def test_frozen_teacher_is_the_file_and_frozen(student, checkpoint):
    teacher = FrozenTeacher(tiny_mask2former(), str(checkpoint))
    teacher.load()
    assert teacher.classes == ('car', 'bus')
    assert all(not parameter.requires_grad for parameter in teacher.model.parameters())
    assert not any(module.training for module in teacher.model.modules())
    for key, value in student.state_dict().items():
        assert torch.equal(teacher.model.state_dict()[key], value), key
    assert len(teacher.provenance()['sha256']) == 64


@pytest.mark.parametrize(
    'meta',
    [
        {'dataset_meta': {'CLASSES': ('car', 'bus')}},
        {'CLASSES': ('car', 'bus'), 'mmdet_version': '2.3.0', 'epoch': 24},
    ],
    ids=['mmdet 3.0', 'mmdet 2'],
)
def test_classes_of_older_checkpoints(student, tmp_path, meta):
    torch.save({'state_dict': student.state_dict(), 'meta': meta}, tmp_path / 'old.pth')
    teacher = FrozenTeacher(tiny_mask2former(), str(tmp_path / 'old.pth'))
    teacher.load()
    assert teacher.classes == ('car', 'bus')


@pytest.mark.parametrize('from_batch', [False, True])
@pytest.mark.parametrize('images', [1, 3])
def test_norms_use_stored_statistics_or_those_of_a_batch(tmp_path, from_batch, images):
    config = dict(
        teacher_file(tmp_path / 'teacher.pth', 0),
        classes=('a', 'b', 'c'),
        batch_statistics=from_batch,
    )
    teacher = TeacherBank({'big': config}, build_model(tiny_segmentor()))['big']
    teacher.load()
    teacher.connect(build_model(tiny_segmentor()), ('a', 'b', 'c'))
    plain = copy.deepcopy(teacher.model)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train(from_batch and images > 1)
    inputs, samples = semantic_batch(labeled=images)
    with torch.no_grad():
        expected = adapter_for(plain).dense(plain, inputs['sup'], samples['sup'])
    before = teacher.fingerprint()
    found = teacher.run(Pass('big', 'sup', 'dense', grad=False), inputs['sup'], samples['sup'])
    torch.testing.assert_close(found.outputs, expected)
    assert teacher.fingerprint() == before
    check_frozen('big', teacher.model)


def test_distiller_checkpoint_gives_its_student(student, tmp_path):
    state = {f'student.{key}': value for key, value in student.state_dict().items()}
    state['objectives.cast.projector.weight'] = torch.ones(1)
    torch.save({'state_dict': state, 'meta': {}}, tmp_path / 'stage.pth')
    teacher = FrozenTeacher(tiny_mask2former(), str(tmp_path / 'stage.pth'))
    teacher.load()
    assert teacher.fingerprint() == _fingerprint(student)


def _fingerprint(network):
    return Teacher(copy.deepcopy(network)).fingerprint()


@pytest.mark.parametrize('change', ['missing', 'unexpected', 'shape'])
def test_other_model_is_refused_with_the_keys(student, tmp_path, change):
    state = dict(student.state_dict())
    key = 'backbone.conv1.weight'
    if change == 'missing':
        state.pop(key)
    elif change == 'unexpected':
        key = 'neck.extra'
        state[key] = torch.ones(1)
    else:
        state[key] = torch.ones(3)
    torch.save({'state_dict': state, 'meta': {}}, tmp_path / 'other.pth')
    teacher = FrozenTeacher(tiny_mask2former(), str(tmp_path / 'other.pth'))
    with pytest.raises(CheckpointError, match=key):
        teacher.load()


def test_allowed_keys(student, tmp_path):
    state = dict(student.state_dict())
    state.pop('panoptic_head.query_embed.weight')
    state['neck.extra'] = torch.ones(1)
    torch.save({'state_dict': state, 'meta': {}}, tmp_path / 'near.pth')
    FrozenTeacher(
        tiny_mask2former(),
        str(tmp_path / 'near.pth'),
        allow_missing=['panoptic_head.query_embed'],
        allow_unexpected=['neck'],
    ).load()


def test_missing_file_names_it(tmp_path):
    with pytest.raises(CheckpointError, match=r'nowhere\.pth'):
        FrozenTeacher(tiny_mask2former(), str(tmp_path / 'nowhere.pth')).load()


def test_no_file_is_refused():
    with pytest.raises(ConfigError, match='names no file'):
        FrozenTeacher(tiny_mask2former(), '')


def test_classes_must_match_or_be_mapped(student, checkpoint):
    teacher = FrozenTeacher(tiny_mask2former(), str(checkpoint))
    teacher.load()
    with pytest.raises(ConfigError, match='declare class_mapping'):
        teacher.connect(student, ('bus', 'car'))
    teacher.class_mapping = {'car': 'vehicle'}
    with pytest.raises(ConfigError, match="nothing of teacher class 'bus'"):
        teacher.connect(student, ('vehicle',))
    teacher.class_mapping = {'car': 'vehicel', 'bus': None}
    with pytest.raises(ConfigError, match="did you mean 'vehicle'"):
        teacher.connect(student, ('person', 'vehicle'))
    teacher.class_mapping = {'car': 'vehicle', 'bus': None}
    teacher.connect(student, ('person', 'vehicle'))
    assert teacher.map_labels(torch.tensor([0, 1, 0])).tolist() == [1, -1, 1]


def test_unknown_classes_are_refused_and_old_spelling_is_read(student, tmp_path):
    torch.save({'state_dict': student.state_dict()}, tmp_path / 'bare.pth')
    teacher = FrozenTeacher(tiny_mask2former(), str(tmp_path / 'bare.pth'))
    teacher.load()
    with pytest.raises(ConfigError, match='does not say which classes'):
        teacher.connect(student, ('car', 'bus'))
    meta = {'dataset_meta': {'CLASSES': ('bus', 'car')}}
    torch.save({'state_dict': student.state_dict(), 'meta': meta}, tmp_path / 'old.pth')
    teacher = FrozenTeacher(tiny_mask2former(), str(tmp_path / 'old.pth'))
    teacher.load()
    with pytest.raises(ConfigError, match='declare class_mapping'):
        teacher.connect(student, ('car', 'bus'))


def test_mapped_predictions_leave_out_unwanted_classes(student, checkpoint):
    teacher = FrozenTeacher(
        tiny_mask2former(), str(checkpoint), class_mapping={'car': 'b', 'bus': None}
    )
    teacher.load()
    teacher.connect(student, ('a', 'b'))
    inputs, samples = make_batch(['weak'])
    for prediction in teacher.predict(inputs['weak'], samples['weak']):
        assert set(prediction.pred_instances.labels.tolist()) == {1}


def test_larger_input_comes_back_in_student_pixels(student, checkpoint):
    teacher = FrozenTeacher(tiny_mask2former(), str(checkpoint), input_scale=2.0)
    teacher.load()
    teacher.connect(student, None)
    inputs, samples = make_batch(['weak'])
    prediction = teacher.predict(inputs['weak'], samples['weak'])[0].pred_instances
    assert prediction.masks.shape[-2:] == (64, 64)
    assert prediction.bboxes.max() <= 64
    for sample in samples['weak']:
        sample.set_metainfo(dict(img_shape=(40, 64)))
    padded = teacher.predict(inputs['weak'], samples['weak'])[0].pred_instances
    assert padded.masks.shape[-2:] == (40, 64)


def test_renormalised_images_equal_own_preprocessing():
    torch.manual_seed(0)
    options = dict(type='DetDataPreprocessor', pad_size_divisor=8)
    ours = MODELS.build({**options, 'mean': [10, 20, 30], 'std': [2, 3, 4], '_scope_': 'mmdet'})
    theirs = MODELS.build(
        {**options, 'mean': [1, 2, 3], 'std': [5, 6, 7], 'bgr_to_rgb': True, '_scope_': 'mmdet'}
    )
    from mmdet.structures import DetDataSample

    images = [torch.randint(0, 255, (3, 13, 9), dtype=torch.uint8) for _ in range(2)]
    samples = [DetDataSample(metainfo=dict(img_shape=(13, 9))) for _ in images]
    mine = ours(dict(inputs=list(images), data_samples=samples))
    wanted = theirs(dict(inputs=list(images), data_samples=samples))['inputs']
    convert = InputConverter(ours, theirs)
    got, _ = convert(mine['inputs'], mine['data_samples'])
    torch.testing.assert_close(got, wanted)
    assert 'RGB and BGR swapped' in convert.describe()
    assert InputConverter(ours, ours).describe() == ''


class TestEMA:
    """How the moving average follows its student, and where it starts from."""

    def test_decay_moves_by_one_minus_decay(self):
        teacher = EMATeacher(0.9996, student=Batch(0))
        teacher.before_step(Batch(0), 0)
        teacher.before_step(Batch(1), 1)
        torch.testing.assert_close(teacher.model.weight, torch.full((2,), 4e-4))
        torch.testing.assert_close(teacher.model.norm.running_mean, torch.full((2,), 4e-4))
        assert teacher.model.norm.num_batches_tracked == 1

    def test_burn_in_keeps_then_copies_exactly(self, tmp_path):
        torch.save({'state_dict': Batch(7).state_dict()}, tmp_path / 't.pth')
        teacher = EMATeacher(0.5, student=Batch(0), burn_in=2, checkpoint=str(tmp_path / 't.pth'))
        teacher.load()
        for step, expected in [(0, 7.0), (1, 7.0), (2, 3.0), (3, 3.0)]:
            teacher.before_step(Batch(3), step)
            assert teacher.model.weight[0] == expected
        teacher.before_step(Batch(5), 4)
        assert teacher.model.weight[0] == 4.0

    def test_adapted_teacher_is_not_overwritten(self, tmp_path):
        torch.save({'state_dict': Batch(7).state_dict()}, tmp_path / 't.pth')
        with pytest.raises(ConfigError, match='would overwrite'):
            EMATeacher(0.9, student=Batch(0), checkpoint=str(tmp_path / 't.pth'))
        teacher = EMATeacher(
            0.9, student=Batch(0), checkpoint=str(tmp_path / 't.pth'), handover='keep'
        )
        teacher.load()
        teacher.before_step(Batch(0), 0)
        torch.testing.assert_close(teacher.model.weight, torch.full((2,), 6.3))

    def test_copied_buffers(self):
        teacher = EMATeacher(0.9, student=Batch(0), buffers='copy')
        teacher.before_step(Batch(1), 1)
        assert teacher.model.norm.running_mean[0] == 1.0
        torch.testing.assert_close(teacher.model.weight, torch.full((2,), 0.1))

    def test_shared_weights_move_once(self):
        student = Batch(0)
        student.twin = student.norm
        teacher = EMATeacher(0.9, student=student)
        teacher.before_step(student, 0)
        moved = Batch(1)
        moved.twin = moved.norm
        teacher.before_step(moved, 1)
        torch.testing.assert_close(teacher.model.norm.running_mean, torch.full((2,), 0.1))

    def test_own_start_needs_a_file(self):
        with pytest.raises(ConfigError, match='name its checkpoint'):
            EMATeacher(0.9, student=Batch(0), burn_in=3)

    @pytest.mark.parametrize('decay', [1.0, -0.1, 'x'])
    def test_decay_range(self, decay):
        with pytest.raises(ConfigError, match=r'decay must be a number in \[0, 1\)'):
            EMATeacher(decay, student=Batch(0))


def test_bank_names_and_state(student, checkpoint):
    bank = TeacherBank(
        {
            'frozen': dict(
                type='castkd.FrozenTeacher', model=tiny_mask2former(), checkpoint=str(checkpoint)
            ),
            'ema': dict(type='castkd.EMATeacher', decay=0.9),
        },
        student,
    )
    assert bank['ema'].name == 'ema'
    assert {key.split('.')[1] for key in bank.state()} == {'ema'}
