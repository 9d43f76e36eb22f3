"""The benchmark of the training command times what it says."""

import json

import pytest

from benchmarks import startup
from castkd.errors import CastkdError


@pytest.mark.parametrize('name', startup.COMMANDS)
def test_commands_answer_as_expected(name):
    startup.run(name)


def test_another_answer_is_an_error(monkeypatch):
    monkeypatch.setitem(startup.COMMANDS, 'train.py --help', ('-c', 'raise ValueError("broken")'))
    with pytest.raises(CastkdError, match=r'status 1 instead of 0; its last line: .*broken'):
        startup.run('train.py --help')


def test_command_reports_medians(tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(startup.COMMANDS, 'misspelt key refused')
    out = tmp_path / 'startup.json'
    startup.main(['--repeat', '1', '--out', str(out)])
    assert set(json.loads(out.read_text())['seconds']) == {'interpreter alone', 'train.py --help'}
    assert '--help' in capsys.readouterr().out
