"""Every shipped recipe from the command line, made tiny: all stages, kill and resume, hand-over."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from castkd.checkpoints import load_checkpoint
from tests.fixtures import make_nuclei128

ROOT = Path(__file__).parents[1]
# Small enough for seconds: the recipe's structure is what is tested here, not what it learns.
SMALL = [
    'fraction=0.5',
    'optim_wrapper.clip_grad.max_norm=1.0',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_dataloader.batch_size=2',
    'custom_hooks.4.interval=2',
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
]
TINY = {
    'backbone.base_channels': 8,
    'neck.in_channels': [8, 16, 32, 64],
    # So young a head is sure of nothing; labels are wanted all the same.
    'test_cfg.score_thr': 0.001,
    'test_cfg.filter_thr': 0.0,
}
STAGES = {
    'cast': [
        'supervised',
        'adapt',
        'label_adapted',
        'self_train',
        'label_self_trained',
        'distill',
        'finetune',
    ],
    'guided_distillation': ['supervised', 'guided'],
}
RECIPES = {
    'cast': 'configs/cast/cast_nuclei128_2pct.py',
    'guided_distillation': 'configs/guided_distillation/gd_nuclei128_2pct.py',
}


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder from which the recipes find their data."""
    root = tmp_path_factory.mktemp('recipes')
    make_nuclei128(root / 'data' / 'nuclei128')
    return root


def options(method, iterations=4):
    found = [f'train_cfg.max_iters={iterations}', *SMALL]
    for stage in STAGES[method]:
        if stage.startswith('label'):
            continue
        labeled_only = stage in ('supervised', 'adapt', 'finetune')
        counts = dict(labeled=2) if labeled_only else dict(labeled=1, unlabeled=1)
        found += [
            f'{stage}.train_dataloader.batch_sampler.counts.{key}={value}'
            for key, value in counts.items()
        ]
        for key, value in TINY.items():
            text = str(value).replace(' ', '')
            found.append(f'{stage}.model.student.{key}={text}')
        # The teacher's contrast reads one level deeper, for its images are twice as large.
        width = dict(adapt=32, self_train=32, distill=16).get(stage)
        if width:
            found.append(f'{stage}.model.objectives.cast.projector.in_channels={width}')
    found += [
        'supervised.train_cfg.val_interval=2',
        'supervised.default_hooks.checkpoint.save_best=coco/segm_mAP',
    ]
    if method == 'guided_distillation':
        found.append('guided.model.teachers.ema.burn_in=2')
    else:
        found += ['label_adapted.score_thr=0.0', 'label_self_trained.score_thr=0.0']
    return found


def command(method, work_dir, *extra, **settings):
    recipe = str(ROOT / RECIPES[method])
    return [
        sys.executable,
        str(ROOT / 'tools' / 'train.py'),
        recipe,
        '--work-dir',
        str(work_dir),
        *extra,
        '--cfg-options',
        *options(method, **settings),
    ]


def environment():
    return {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}


def run(arguments, project):
    done = subprocess.run(
        arguments, cwd=project, env=environment(), capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout + done.stderr


def state_of(work_dir, stage):
    manifest = json.loads((work_dir / 'recipe.json').read_text())
    checkpoint = manifest['stages'][stage]['outputs']['checkpoint']
    path = checkpoint['path'] if isinstance(checkpoint, dict) else checkpoint
    path = Path(path)
    if not path.is_absolute():
        path = work_dir / path
    return load_checkpoint(path)['state_dict']


@pytest.fixture(scope='module')
def finished(project):
    """The CAST recipe, run through without a stop."""
    work_dir = project / 'work' / 'straight'
    output = run(command('cast', work_dir), project)
    return work_dir, output


@pytest.mark.slow
def test_cast_runs_all_stages(finished):
    work_dir, output = finished
    manifest = json.loads((work_dir / 'recipe.json').read_text())
    assert list(manifest['stages']) == STAGES['cast']
    assert {stage['state'] for stage in manifest['stages'].values()} == {'done'}
    for label in ('labels only', 'distilled', 'fine-tuned'):
        assert label in output
    assert (work_dir / 'report.html').stat().st_size > 10_000
    assert (work_dir / 'pictures.png').stat().st_size > 1_000
    assert (work_dir / 'finetune' / 'pictures' / 'iter_4.png').exists()
    for key in state_of(work_dir, 'distill'):
        assert key.startswith(('student.', 'objectives.cast.projector.', 'step')), key
    # The last stage has no projector that weight decay could change.
    assert all(key.startswith(('student.', 'step')) for key in state_of(work_dir, 'finetune'))


@pytest.mark.slow
def test_every_validation_has_the_same_names(finished):
    """L7: the best checkpoint is found by a name that every validation gives, and it is the student's."""
    work_dir, _ = finished
    scalars = next((work_dir / 'supervised').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    validations = [set(line) for line in lines if 'coco/segm_mAP' in line]
    assert len(validations) == 2
    assert validations[0] == validations[1]
    assert not any('teacher' in name for name in validations[0])
    assert list((work_dir / 'supervised').glob('best_coco_segm_mAP_iter_*.pth'))


@pytest.mark.slow
def test_finished_recipe_is_skipped(finished, project):
    work_dir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in work_dir.rglob('*.pth')}
    run(command('cast', work_dir), project)
    assert before == {path: path.stat().st_mtime_ns for path in work_dir.rglob('*.pth')}


@pytest.mark.slow
def test_changed_stage_is_refused_with_the_key(finished, project):
    work_dir, _ = finished
    arguments = [*command('cast', work_dir), 'distill.model.objectives.cast.weight=0.2']
    done = subprocess.run(
        arguments, cwd=project, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith('error:')]
    assert len(errors) == 1
    assert 'distill' in errors[0]
    assert 'model.objectives.cast.weight' in errors[0]


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_weights(finished, project):
    straight, _ = finished
    work_dir = project / 'work' / 'killed'
    process = subprocess.Popen(
        command('cast', work_dir),
        cwd=project,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    mark = work_dir / 'distill' / 'iter_2.pth'
    while not mark.exists() and process.poll() is None:
        time.sleep(0.02)  # waits for the checkpoint, not for time to pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (work_dir / 'distill' / 'iter_4.pth').exists(), 'killed too late to test anything'
    run(command('cast', work_dir, '--resume'), project)
    for stage in ('distill', 'finetune'):
        expected, got = state_of(straight, stage), state_of(work_dir, stage)
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            assert torch.equal(value, got[key]), f'{stage}: {key}'


@pytest.mark.slow
def test_student_goes_to_plain_mmdet(finished, project):
    """The exported pair loads strictly and predicts the same where castkd cannot be imported."""
    work_dir, _ = finished
    manifest = json.loads((work_dir / 'recipe.json').read_text())
    outputs = manifest['stages']['finetune']['outputs']
    config, checkpoint = (_path(work_dir, outputs[name]) for name in ('config', 'checkpoint'))
    out = project / 'student'
    export = ROOT / 'tools' / 'export_student.py'
    run([sys.executable, str(export), str(config), str(checkpoint), '--out', str(out)], project)
    image = next((project / 'data' / 'nuclei128' / 'val').glob('*.png'))
    plain = run(
        [sys.executable, '-c', PLAIN, str(out), str(image), str(project / 'plain.pt')], project
    )
    assert 'castkd' not in plain.replace(str(project), '')
    from castkd.apis.predictor import load_predictor

    predicted = load_predictor(str(config), str(checkpoint)).predict_paths([str(image)])[0]
    instances = predicted.pred_instances
    saved = torch.load(project / 'plain.pt', weights_only=True)
    assert len(instances) > 0
    for key, value in saved.items():
        assert torch.equal(value, instances[key].cpu()), key


def _path(work_dir, output):
    path = Path(output['path'] if isinstance(output, dict) else output)
    return path if path.is_absolute() else work_dir / path


PLAIN = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'castkd':
            raise ImportError('blocked: ' + name)

sys.meta_path.insert(0, Block())
import torch
from mmdet.apis import inference_detector, init_detector

folder, image, out = sys.argv[1:]
model = init_detector(f'{folder}/student.py', f'{folder}/student.pth', device='cpu')
found = inference_detector(model, image).pred_instances
torch.save({key: found[key].cpu() for key in ('scores', 'labels', 'bboxes', 'masks')}, out)
"""


@pytest.mark.slow
def test_guided_distillation_hands_over_after_the_burn_in(project):
    work_dir = project / 'work' / 'guided'
    run(command('guided_distillation', work_dir), project)
    phase0 = state_of(work_dir, 'supervised')
    guided = state_of(work_dir, 'guided')
    key = 'mask_head.conv_kernel.weight'
    teacher = guided[f'teachers.ema.{key}']
    assert not torch.equal(teacher, phase0[f'student.{key}'])
    # One averaging step after the copy: close to the student, not equal.
    student = guided[f'student.{key}']
    assert 0 < (teacher - student).abs().max() < (phase0[f'student.{key}'] - student).abs().max()
