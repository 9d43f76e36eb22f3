import os
import re
import zipfile
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from castkd.engine.stage import (
    StageConfig,
    StageJob,
    busiest_step,
    describe_stage,
    image_counts,
    mean_runs,
    resume_point,
    runner_config,
    start_processes,
)
from castkd.errors import ConfigError
from castkd.structures import Pass


def checkpoint(path, age=0):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('data', path.name)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_last_checkpoint_is_taken_not_the_best_or_the_newest(tmp_path):
    last = checkpoint(tmp_path / 'iter_2.pth', age=5)
    checkpoint(tmp_path / 'iter_1.pth', age=1)
    checkpoint(tmp_path / 'best_mIoU_iter_1.pth')
    (tmp_path / 'last_checkpoint').write_text('/elsewhere/before/it/moved/iter_2.pth')
    assert resume_point(tmp_path) == last


def test_without_a_pointer_the_newest_whole_checkpoint_is_taken(tmp_path):
    older = checkpoint(tmp_path / 'iter_1.pth', age=5)
    half = checkpoint(tmp_path / 'iter_2.pth')
    half.write_bytes(half.read_bytes()[:-8])
    checkpoint(tmp_path / 'best_mIoU.pth')
    assert resume_point(tmp_path) == older
    (tmp_path / 'last_checkpoint').write_text('iter_3.pth')
    assert resume_point(tmp_path) == older


def test_a_folder_without_checkpoints_has_nothing_to_resume(tmp_path):
    assert resume_point(tmp_path) is None
    assert resume_point(tmp_path / 'absent') is None


def job(folder, config=None, **options):
    return StageJob('adapt', folder, config or {'load_from': 'teacher.pth'}, **options)


def test_a_resumed_stage_loads_its_own_checkpoint_instead_of_load_from(tmp_path):
    point = checkpoint(tmp_path / 'iter_1.pth')
    assert runner_config(job(tmp_path))['load_from'] == 'teacher.pth'
    resumed = runner_config(job(tmp_path, resume=True))
    assert (resumed['resume'], resumed['load_from']) == (True, str(point))
    point.unlink()
    fresh = runner_config(job(tmp_path, resume=True))
    assert (fresh['resume'], fresh['load_from']) == (False, 'teacher.pth')


def test_runs_of_one_process_share_no_names(tmp_path):
    config = {'visualizer': {'type': 'DetLocalVisualizer', 'name': 'visualizer'}}
    first, second = (runner_config(job(tmp_path, config)) for _ in range(2))
    assert first['experiment_name'] != second['experiment_name']
    assert first['visualizer']['name'] != second['visualizer']['name']
    assert config['visualizer']['name'] == 'visualizer'


def test_the_last_iteration_always_gives_a_checkpoint(tmp_path):
    hooks = {'checkpoint': {'type': 'CheckpointHook', 'interval': 7, 'save_last': False}}
    made = runner_config(job(tmp_path, {'default_hooks': hooks}))['default_hooks']
    assert made['checkpoint'] == {'type': 'CheckpointHook', 'interval': 7, 'save_last': True}
    assert runner_config(job(tmp_path))['default_hooks']['checkpoint']['save_last'] is True


def test_networks_on_a_cpu_are_distributed_without_a_device(tmp_path, monkeypatch):
    monkeypatch.setattr('castkd.engine.stage.is_cuda_available', lambda: False)
    wrapper = runner_config(job(tmp_path, launcher='pytorch'))['model_wrapper_cfg']
    assert wrapper['device_ids'] is None
    assert 'model_wrapper_cfg' not in runner_config(job(tmp_path))


def test_a_launcher_without_its_environment_is_refused(monkeypatch):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match='not started by torchrun'):
        start_processes('pytorch', {})


def test_the_text_of_a_config_gives_the_config_back(tmp_path):
    content = {
        'model': {'type': 'ToyNet', 'scales': (1, 2.5), 'names': ['a', "b'c"], 'none': None},
        'numbers': [1e-8, True, -3],
        'long': ['x' * 60] * 3,
    }
    path = tmp_path / 'config.py'
    path.write_text(StageConfig(content).pretty_text)
    assert Config.fromfile(path).to_dict() == content


class Model:
    def plan(self, step):
        return [Pass('ema', 'unsup_teacher', 'predict'), Pass('student', 'sup', 'loss')]


def loader(**options):
    return SimpleNamespace(
        dataset=SimpleNamespace(sizes={'labeled': 3, 'unlabeled': 9}),
        batch_sampler=SimpleNamespace(describe=lambda: 'per step 2 labeled', **options),
    )


def test_a_stage_says_what_it_is_about_to_do():
    assert describe_stage('distill', Model(), loader(), 10) == (
        'distill: 10 steps; per step 2 labeled; 2 passes per step: ema on unsup_teacher (predict), '
        'student on sup (loss); 20 passes in all'
    )


class LateTeacher(Model):
    def plan(self, step):
        return super().plan(step)[step < 700 :]


def test_a_teacher_that_begins_late_is_counted():
    """Between the steps that are looked at (every fifteenth), the number of passes is not known exactly."""
    assert busiest_step(LateTeacher(), 1000) == 705
    text = describe_stage('distill', LateTeacher(), loader(), 1000)
    assert '1 to 2 passes per step: ema on unsup_teacher (predict), student on sup (loss)' in text
    (total,) = re.findall(r'about (\d+) passes in all', text)
    assert int(total) == pytest.approx(1300, abs=20)
    assert mean_runs(LateTeacher(), 1000) == pytest.approx(0.65, abs=0.01)


def test_a_stage_without_any_run_has_a_mean():
    assert mean_runs(SimpleNamespace(plan=lambda _: []), 100) == 1.0


def test_sources_that_no_batch_draws_from_are_not_counted():
    assert image_counts(loader()) == {'labeled': 3, 'unlabeled': 9}
    counts = {'labeled': 2, 'unlabeled': 0}
    assert image_counts(loader(counts=counts)) == {'labeled': 3}
    plain = SimpleNamespace(dataset=[1, 2, 3, 4])
    assert image_counts(plain) == {'labeled': 4}
