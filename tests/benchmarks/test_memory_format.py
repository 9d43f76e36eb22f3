"""The benchmark runs, and the networks of its two forms differ in the memory format alone."""

import json

import torch
from mmengine.config import Config

from benchmarks import memory_format as benchmark
from tests.benchmarks.test_distillation_step import CAST


def test_both_forms_are_timed(monkeypatch):
    built = []

    def build(config, online):
        built.append(original(config, online))
        return built[-1]

    original = benchmark.build_distiller
    monkeypatch.setattr(benchmark, 'build_distiller', build)
    found = benchmark.measure(Config(CAST), rounds=2, device='cpu')
    assert set(found) == {'usual', 'channels_last', 'ratio'}
    assert all(value > 0 for value in found.values())
    usual, last = (dict(distiller.student.named_parameters()) for distiller in built)
    name = 'backbone.conv1.weight'
    assert usual[name].is_contiguous()
    assert not last[name].is_contiguous()
    assert all(torch.equal(usual[key], last[key]) for key in usual)


def test_table_and_file(tmp_path, capsys):
    file = tmp_path / 'stage.py'
    Config(CAST).dump(file)
    benchmark.main([str(file), '--repeat', '1', '--out', str(tmp_path / 'out.json')])
    assert 'channels last, ms' in capsys.readouterr().out
    (stage,) = json.loads((tmp_path / 'out.json').read_text())['stages'].values()
    assert set(stage) == {'usual', 'channels_last', 'ratio'}
