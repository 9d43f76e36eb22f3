"""A checkpoint knows its split and its teachers, and a resume compares them."""

import hashlib

import pytest
import torch
from mmengine.runner.checkpoint import get_torch_safe_globals

from castkd.datasets.splits import Split
from castkd.errors import CheckpointError
from castkd.hooks import Provenance
from castkd.teachers import EMATeacher, FrozenTeacher
from castkd.version import __version__
from tests.hooks.toy import SquareFinder, Squares, toy_distiller, toy_runner

NAMES = ('a.png', 'b.png', 'c.png', 'd.png')
SPLIT = Split(NAMES[:1], NAMES[1:], 0.25, 3)


def write_teacher(file, bias):
    network = SquareFinder()
    torch.nn.init.constant_(network.conv.bias, bias)
    torch.save({'state_dict': network.state_dict(), 'meta': {}}, file)
    return file


@pytest.fixture
def teacher_file(tmp_path):
    return write_teacher(tmp_path / 'teacher.pth', 0.5)


def run(folder, teacher_file, split=SPLIT, max_iters=1, **options):
    distiller = toy_distiller(teacher=FrozenTeacher(SquareFinder(), str(teacher_file)))
    data = Squares(training=True, split=split)
    runner = toy_runner(folder, distiller, [Provenance()], max_iters, train=data, **options)
    runner.train()
    return runner


def stored(folder, iteration=1):
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        content = torch.load(folder / f'iter_{iteration}.pth', weights_only=True)
    return content['meta']['castkd']


def test_record_is_plain_and_complete(tmp_path, teacher_file):
    run(tmp_path / 'run', teacher_file)
    assert stored(tmp_path / 'run') == {
        'version': __version__,
        'teachers': {
            'expert': {
                'file': str(teacher_file),
                'sha256': hashlib.sha256(teacher_file.read_bytes()).hexdigest(),
            }
        },
        'split': {
            'checksum': SPLIT.checksum,
            'fraction': 0.25,
            'seed': 3,
            'counts': {'labeled': 1, 'unlabeled': 3},
        },
    }


def test_run_without_split_or_teacher_file_is_recorded_too(tmp_path):
    for iterations in (1, 2):
        distiller = toy_distiller(teacher=EMATeacher(0.5, student=SquareFinder()))
        toy_runner(tmp_path, distiller, [Provenance()], iterations, resume=True).train()
        record = {'version': __version__, 'teachers': {}, 'split': None}
        assert stored(tmp_path, iterations) == record


def test_same_split_and_teacher_resume(tmp_path, teacher_file):
    run(tmp_path / 'run', teacher_file)
    # The same split drawn again, and the same bytes under another name.
    again = Split(NAMES[:1], NAMES[:0:-1], 0.25, None)
    moved = teacher_file.rename(tmp_path / 'moved.pth')
    runner = run(tmp_path / 'run', moved, again, max_iters=2, resume=True)
    assert runner.iter == 2
    assert stored(tmp_path / 'run', 2)['teachers']['expert']['file'] == str(moved)


@pytest.mark.parametrize('split', [Split(NAMES[1:2], NAMES[:1], 0.25, 3), None])
def test_other_split_is_refused(tmp_path, teacher_file, split):
    run(tmp_path / 'run', teacher_file)
    with pytest.raises(CheckpointError, match=r'^resume: .* split') as caught:
        run(tmp_path / 'run', teacher_file, split, max_iters=2, resume=True)
    assert SPLIT.checksum in str(caught.value)
    assert str(split and split.checksum) in str(caught.value)
    assert not (tmp_path / 'run' / 'iter_2.pth').exists()


def test_other_teacher_is_refused(tmp_path, teacher_file):
    run(tmp_path / 'run', teacher_file)
    before = stored(tmp_path / 'run')['teachers']['expert']['sha256'][:12]
    write_teacher(teacher_file, 0.75)
    after = hashlib.sha256(teacher_file.read_bytes()).hexdigest()[:12]
    with pytest.raises(CheckpointError, match=f"teacher 'expert' .*{before}.*{after}"):
        run(tmp_path / 'run', teacher_file, max_iters=2, resume=True)


def test_weights_of_another_run_may_start_a_new_one(tmp_path, teacher_file):
    run(tmp_path / 'first', teacher_file)
    weights = str(tmp_path / 'first' / 'iter_1.pth')
    run(tmp_path / 'second', teacher_file, None, load_from=weights)
    assert stored(tmp_path / 'second')['split'] is None


def test_checkpoint_without_a_record_resumes(tmp_path, teacher_file):
    distiller = toy_distiller()
    toy_runner(tmp_path / 'run', distiller, max_iters=1).train()
    assert run(tmp_path / 'run', teacher_file, max_iters=2, resume=True).iter == 2
