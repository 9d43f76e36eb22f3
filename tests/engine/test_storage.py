"""Files are whole or not there."""

import errno
import os

import pytest
import torch
from mmengine import fileio
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner.checkpoint import save_checkpoint

from castkd.engine.storage import AtomicLocalBackend, install_atomic_storage
from castkd.errors import DataError


@pytest.fixture
def installed():
    install_atomic_storage()
    yield
    register_backend('local', LocalBackend, force=True, prefixes='')
    fileio.io.backend_instances.clear()


def fail_with(number):
    def fail(*_arguments):
        raise OSError(number, os.strerror(number))

    return fail


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_content_arrives_and_replaces(tmp_path):
    file = tmp_path / 'new' / 'folder' / 'note.txt'
    AtomicLocalBackend().put(b'one', str(file))
    AtomicLocalBackend().put_text('zwei \u00fc', file)
    assert file.read_text(encoding='utf-8') == 'zwei \u00fc'
    assert names_in(file.parent) == ['note.txt']


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, number, call):
    file = tmp_path / 'weights.pth'
    file.write_bytes(b'old')
    monkeypatch.setattr(os, call, fail_with(number))
    with pytest.raises(DataError, match=r"weights\.pth: cannot be written to '.*'") as caught:
        AtomicLocalBackend().put(b'new content', file)
    assert str(tmp_path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert file.read_bytes() == b'old'
    assert names_in(tmp_path) == ['weights.pth']


def test_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'runs').write_text('no folder')
    with pytest.raises(DataError, match=r"'.*runs/first'"):
        AtomicLocalBackend().put(b'x', tmp_path / 'runs' / 'first' / 'weights.pth')


def test_killed_write_keeps_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / 'weights.pth'
    file.write_bytes(b'old')

    class Kill(BaseException):
        pass

    def die(*_arguments):
        raise Kill

    monkeypatch.setattr(os, 'fsync', die)
    with pytest.raises(Kill):
        AtomicLocalBackend().put(b'new', file)
    assert file.read_bytes() == b'old'


def test_mmengine_writes_through_it(tmp_path, installed, monkeypatch):
    monkeypatch.setattr(os, 'fsync', fail_with(errno.ENOSPC))
    with pytest.raises(DataError, match='No space left'):
        save_checkpoint({'weight': torch.ones(1000)}, str(tmp_path / 'iter_1.pth'))
    with pytest.raises(DataError, match='No space left'):
        fileio.dump({'a': 1}, str(tmp_path / 'a.json'))
    assert names_in(tmp_path) == []


def test_backends_made_before_are_replaced(tmp_path, monkeypatch):
    fileio.put(b'x', str(tmp_path / 'x'))
    install_atomic_storage()
    install_atomic_storage()
    try:
        monkeypatch.setattr(os, 'fsync', fail_with(errno.ENOSPC))
        with pytest.raises(DataError):
            fileio.put(b'y', str(tmp_path / 'x'))
        assert (tmp_path / 'x').read_bytes() == b'x'
    finally:
        register_backend('local', LocalBackend, force=True, prefixes='')
        fileio.io.backend_instances.clear()
