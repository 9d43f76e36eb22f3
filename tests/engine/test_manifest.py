import json

import pytest

from castkd.engine.manifest import (
    DONE,
    Manifest,
    StageRecord,
    changed_keys,
    config_text,
    input_files,
)
from castkd.errors import DataError


def filled(folder):
    manifest = Manifest(folder, 'recipe.py', {'seed': 1})
    manifest.stages['adapt'] = StageRecord('train', DONE, metrics={'mIoU': 0.5}, seconds=2.0)
    (folder / 'adapt').mkdir()
    (folder / 'adapt' / 'iter_2.pth').write_bytes(b'weights')
    manifest.set_outputs('adapt', {'checkpoint': folder / 'adapt' / 'iter_2.pth'})
    return manifest


def test_what_is_saved_is_loaded(tmp_path):
    manifest = filled(tmp_path)
    manifest.save()
    assert Manifest.load(tmp_path) == manifest
    assert [path.name for path in tmp_path.glob('*recipe*')] == ['recipe.json']


def test_paths_do_not_depend_on_where_the_work_directory_is(tmp_path):
    (tmp_path / 'old').mkdir()
    filled(tmp_path / 'old').save()
    (tmp_path / 'old').rename(tmp_path / 'new')
    manifest = Manifest.load(tmp_path / 'new')
    assert manifest.output('adapt', 'checkpoint') == tmp_path / 'new' / 'adapt' / 'iter_2.pth'
    assert manifest.damaged_output('adapt') is None


def test_outputs_of_unfinished_stages_do_not_exist(tmp_path):
    manifest = filled(tmp_path)
    assert manifest.output('adapt', 'split') is None
    assert manifest.output('other', 'checkpoint') is None
    manifest.stages['adapt'].state = 'running'
    assert manifest.output('adapt', 'checkpoint') is None


def test_altered_and_missing_outputs_are_told_apart(tmp_path):
    manifest = filled(tmp_path)
    assert manifest.damaged_output('adapt') is None
    path = tmp_path / 'adapt' / 'iter_2.pth'
    path.write_bytes(b'other')
    assert 'other checksum' in manifest.damaged_output('adapt')
    path.unlink()
    assert 'is missing' in manifest.damaged_output('adapt')


@pytest.mark.parametrize(
    'content',
    [
        '{"format": 1, "recipe": "x", ',
        '[]',
        json.dumps({'format': 99}),
        json.dumps({'format': 1, 'recipe': '', 'variables': {}, 'stages': {'a': {'color': 1}}}),
    ],
)
def test_a_damaged_manifest_is_refused_in_one_line(tmp_path, content):
    (tmp_path / 'recipe.json').write_text(content)
    with pytest.raises(DataError, match=r'recipe\.json.* is no manifest') as caught:
        Manifest.load(tmp_path)
    assert '\n' not in str(caught.value)


def test_a_full_disk_leaves_the_old_manifest(tmp_path, monkeypatch):
    manifest = filled(tmp_path)
    manifest.save()
    before = (tmp_path / 'recipe.json').read_text()
    manifest.stages['adapt'].seconds = 9.0

    def full(*paths):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.replace', full)
    with pytest.raises(DataError, match='No space left on device'):
        manifest.save()
    assert (tmp_path / 'recipe.json').read_text() == before
    assert not list(tmp_path.glob('.*partial'))


CONFIG = {
    'model': {'type': 'ToyNet', 'scales': (1, 2)},
    'train_dataloader': {'batch_size': 2, 'num_workers': 0},
    'default_hooks': {'logger': {'interval': 1}, 'ema': {'type': 'EMAHook'}},
    'custom_hooks': [{'type': 'castkd.Pictures', 'interval': 5}, {'type': 'Other'}],
    'work_dir': 'a',
}


def changed(**new):
    return {**CONFIG, **new}


@pytest.mark.parametrize(
    'other',
    [
        changed(work_dir='b'),
        changed(log_level='ERROR', visualizer={'type': 'Visualizer'}),
        changed(train_dataloader={'num_workers': 4, 'persistent_workers': True, 'batch_size': 2}),
        changed(default_hooks={'ema': {'type': 'EMAHook'}, 'checkpoint': {'interval': 7}}),
        changed(custom_hooks=[{'type': 'Other'}]),
        changed(model={'scales': [1, 2], 'type': 'ToyNet'}),
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_text(other):
    assert config_text(other) == config_text(CONFIG)


@pytest.mark.parametrize(
    ('other', 'key'),
    [
        (changed(model={'type': 'ToyNet', 'scales': (1, 3)}), 'model.scales.1 (2 -> 3)'),
        (changed(train_dataloader={'batch_size': 4}), 'train_dataloader.batch_size (2 -> 4)'),
        (changed(default_hooks={}), "default_hooks.ema.type ('EMAHook' -> absent)"),
        (changed(custom_hooks=[{'type': 'New'}]), "custom_hooks.0.type ('Other' -> 'New')"),
        (changed(load_from='x.pth'), "load_from (absent -> 'x.pth')"),
    ],
)
def test_changed_keys_are_named_with_both_values(other, key):
    assert key in changed_keys(config_text(CONFIG), config_text(other))


def test_input_files_are_found_beside_their_data_root(tmp_path):
    for name in ('train.json', 'teacher.pth', 'image.png'):
        (tmp_path / name).touch()
    config = {
        'dataset': {'data_root': str(tmp_path), 'ann_file': 'train.json', 'img': 'image.png'},
        'load_from': str(tmp_path / 'teacher.pth'),
        'other': ['missing.json', '{adapt.checkpoint}'],
    }
    assert sorted(path.name for path in input_files(config).values()) == [
        'teacher.pth',
        'train.json',
    ]
