"""Numbers over seeds, from manifests that are written by hand."""

import io
import json

import pytest
from rich.console import Console

from castkd.apis.study_results import Spread, collect
from castkd.engine.manifest import DONE, Manifest, StageRecord, config_text
from castkd.engine.recipe import PSEUDO_LABEL, TRAIN, Recipe, Stage
from castkd.errors import DataError

AP = {'base': (0.20, 0.22, 0.18), 'cast': (0.25, 0.24, 0.26)}


def write_seed(folder, seed, finished=('base', 'label', 'cast'), **config):
    """Write what a seed left: manifest, config texts, log and quality of the labels."""
    records = {}
    for name in finished:
        metrics = {'coco/segm_mAP': AP[name][seed], 'coco/segm_mAP_50': 0.5} if name in AP else {}
        records[name] = StageRecord(
            PSEUDO_LABEL if name == 'label' else TRAIN,
            DONE,
            metrics=metrics,
            seconds=60.0 + seed,
            iterations=100 if name in AP else 0,
            parameters=3_100_000 if name in AP else 0,
            images={'labeled': 33},
            versions={'torch': '2.13.0'},
        )
    manifest = Manifest(folder, 'r.py', {'seed': seed}, records)
    (folder / 'label').mkdir(parents=True)
    row = {'precision': 0.123456789, 'recall': None, 'predictions': 3, 'instances': 0}
    quality = {'images': 5, 'iou_thr': 0.5, **row, 'by_size': {'small': row}}
    quality |= {'by_score': [{'above': 0.3, **row}], 'by_area': [{'from': 8, 'to': 16, **row}]}
    path = folder / 'label' / 'annotations.quality.json'
    path.write_text(json.dumps(quality))
    if 'label' in records:
        manifest.set_outputs('label', {'quality': path})
    manifest.save()
    for name in finished:
        text = config_text({'randomness': {'seed': seed}, 'file': f'split_{seed}.txt', **config})
        (folder / f'{name}.config.json').write_text(text)
    log = folder / 'cast' / 'x' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps({'loss': 1, 'cast.separation': 0.1 * seed, 'step': 1}))


def recipe_of(tmp_path, **report):
    rows = [{'stage': 'base', 'label': 'labels | only'}, {'stage': 'cast'}]
    stages = [Stage('base', TRAIN), Stage('label', PSEUDO_LABEL), Stage('cast', TRAIN)]
    variables = {'seed': 0, 'fraction': 0.02, 'options': {'a': 1}}
    return Recipe('r.py', tmp_path, stages, variables, {'rows': rows, **report})


def results_of(tmp_path, finished=None, seeds=(0, 1, 2), **report):
    for seed in seeds:
        options = {} if finished is None else {'finished': finished[seed]}
        write_seed(tmp_path / f'seed{seed}', seed, **options)
    return collect(recipe_of(tmp_path, **report), {s: tmp_path / f'seed{s}' for s in seeds})


def test_mean_deviation_and_paired_difference():
    first, second = Spread(AP['base']), Spread(AP['cast'])
    assert (first.mean, first.deviation) == (pytest.approx(0.2), pytest.approx(0.02))
    # Differences 0.05, 0.02, 0.08: deviation 0.03, while the unpaired ones deviate by 0.02 and 0.01.
    difference = second.minus(first)
    assert difference.mean == pytest.approx(0.05)
    assert difference.deviation == pytest.approx(0.03)


def test_seeds_that_lack_a_number_are_left_out_on_both_sides():
    difference = Spread([0.3, None, 0.5]).minus(Spread([0.1, 0.2, None]))
    assert difference.values == [pytest.approx(0.2), None, None]
    assert (difference.mean, difference.deviation) == (pytest.approx(0.2), None)
    assert Spread([None, None]).content() == {
        'values': [None, None],
        'n': 0,
        'mean': None,
        'std': None,
    }


def test_the_table_has_every_seed_mean_deviation_and_difference(tmp_path):
    headings, rows = results_of(tmp_path).cells()
    assert headings == [
        'row',
        'images',
        'steps',
        'params',
        *(f'mask AP seed {seed}' for seed in (0, 1, 2)),
        'mask AP mean',
        'std',
        'to first row',
        'mask AP50',
    ]
    facts = ['33 labeled', '100', '3.10 M']
    assert rows == [
        ['labels | only', *facts, '0.200', '0.220', '0.180', '0.200', '0.020', '', '0.500 ± 0.000'],
        [
            'cast',
            *facts,
            '0.250',
            '0.240',
            '0.260',
            '0.250',
            '0.010',
            '+0.050 ± 0.030',
            '0.500 ± 0.000',
        ],
    ]


def test_rows_that_lack_seeds_say_how_many_they_have(tmp_path):
    finished = {0: ['base', 'cast'], 1: ['base', 'cast'], 2: ['base']}
    _, rows = results_of(tmp_path, finished).cells()
    assert rows[0][7:10] == ['0.200', '0.020', '']
    assert rows[1][4:] == [
        '0.250',
        '0.240',
        '',
        '0.245 (n=2)',
        '0.007',
        '+0.035 ± 0.021 (n=2)',
        '0.500 ± 0.000 (n=2)',
    ]


def test_a_row_of_no_seed_is_there_and_empty(tmp_path):
    _, rows = results_of(tmp_path, {0: ['base'], 1: ['base']}, seeds=(0, 1)).cells()
    assert rows[1] == ['cast', '', '', '', '', '', '(n=0)', '', '(n=0)', '(n=0)']


def test_markdown_is_a_table_with_its_recipe_and_variables(tmp_path):
    lines = results_of(tmp_path).markdown().splitlines()
    assert lines[0] == '`r.py`, seeds 0, 1, 2; fraction=0.02'
    assert lines[4].startswith('| labels \\| only | 33 labeled | 100 |')
    assert {line.replace('\\|', '').count('|') for line in lines[2:6]} == {12}


def test_the_terminal_table_can_be_printed(tmp_path):
    console = Console(width=120, file=io.StringIO())
    console.print(results_of(tmp_path).table())
    assert '+0.050 ± 0.030' in console.file.getvalue()


def test_the_json_has_seeds_stages_metrics_seconds_and_label_quality(tmp_path):
    content = json.loads(json.dumps(results_of(tmp_path).content()))
    assert content['seeds'] == [0, 1, 2]
    assert content['metric'] == 'coco/segm_mAP'
    assert content['variables'] == {'fraction': 0.02, 'options': {'a': 1}}
    assert content['versions'] == {'torch': '2.13.0'}
    base, cast = content['rows']
    assert 'difference' not in base
    assert (base['images'], base['iterations'], base['parameters']) == (
        {'labeled': 33},
        100,
        3_100_000,
    )
    assert cast['difference'] == {'values': [0.05, 0.02, 0.08], 'n': 3, 'mean': 0.05, 'std': 0.03}
    assert cast['metrics']['coco/segm_mAP']['values'] == [0.25, 0.24, 0.26]
    assert content['stages']['cast'] == {'seconds': [60.0, 61.0, 62.0], 'resumed': [0, 0, 0]}
    quality = content['stages']['label']['pseudo_labels'][1]
    assert quality['precision'] == 0.123457
    assert quality['by_area'][0]['from'] == 8
    assert 'by_size' not in quality


def test_curves_are_over_seeds(tmp_path):
    results = results_of(tmp_path, curves=['cast.separation', 'cast.seperation'])
    content, note = results.curves()
    assert content.startswith(b'\x89PNG')
    assert "no stage logged 'cast.seperation'; did you mean 'cast.separation'" in note


def test_facts_that_differ_between_seeds_are_listed(tmp_path):
    for seed in (0, 1):
        write_seed(tmp_path / f'seed{seed}', seed)
    manifest = Manifest.load(tmp_path / 'seed1')
    manifest.stages['base'].images = {'labeled': 34}
    manifest.save()
    results = collect(recipe_of(tmp_path), {seed: tmp_path / f'seed{seed}' for seed in (0, 1)})
    assert results.cells()[1][0][1:3] == ['33 labeled / 34 labeled', '100']
    assert results.content()['rows'][0]['images'] == [{'labeled': 33}, {'labeled': 34}]


def test_seeds_that_were_trained_differently_are_not_one_study(tmp_path):
    write_seed(tmp_path / 'seed1', 1, lr=0.1)
    write_seed(tmp_path / 'seed2', 2, lr=0.2)
    folders = {seed: tmp_path / f'seed{seed}' for seed in (1, 2)}
    words = r"seeds 1 and 2 trained stage 'base' with different configs: lr \(0.1 and 0.2\)"
    with pytest.raises(DataError, match=words):
        collect(recipe_of(tmp_path), folders)
