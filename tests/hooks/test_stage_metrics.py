"""The last validation's numbers are there for whoever started the run."""

from castkd.hooks import StageMetrics
from tests.hooks.toy import toy_distiller, toy_runner


def test_numbers_of_the_last_validation(tmp_path):
    hook = StageMetrics()
    toy_runner(tmp_path, toy_distiller(), [hook], max_iters=2).train()
    assert hook.metrics == {'images': 8.0}
    assert type(hook.metrics['images']) is float
    assert hook.iteration == 2


def test_resumed_run_counts_from_its_checkpoint(tmp_path):
    toy_runner(tmp_path, toy_distiller(), max_iters=2).train()
    hook = StageMetrics()
    runner = toy_runner(tmp_path, toy_distiller(), [hook], max_iters=2, resume=True)
    runner.train()
    assert (hook.metrics, hook.iteration) == ({}, 0)
    runner.val_loop.run()
    assert (hook.metrics, hook.iteration) == ({'images': 8.0}, 2)
