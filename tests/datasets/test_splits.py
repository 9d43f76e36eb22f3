import json
import os
import runpy
import sys
from pathlib import Path

import pytest

from castkd.datasets.splits import (
    Split,
    check_disjoint,
    draw_split,
    list_images,
    make_split,
    read_split,
    split_from_list,
    write_split,
)
from castkd.errors import ConfigError, DataError

TOOL = Path(__file__).parents[2] / 'tools' / 'make_splits.py'


def range_names(total):
    return [f'{i:05d}.png' for i in range(total)]


NAMES = [f'city{i % 7}/image_{i:04d}.png' for i in range(1636)]


@pytest.mark.parametrize(
    ('total', 'fraction', 'expected'),
    [
        (1636, 0.02, 33),
        (1636, 0.1, 164),
        (2975, 0.1, 298),
        (100, 0.07, 7),
        (10, 0.25, 2),
        (9, 1, 9),
    ],
)
def test_number_is_rounded_fraction(total, fraction, expected):
    split = draw_split(range_names(total), fraction)
    assert len(split.labeled) == expected == round(fraction * total)
    assert split.fraction == fraction


def test_sides_are_disjoint_and_complete():
    split = draw_split(NAMES, 0.1, seed=3)
    assert not set(split.labeled) & set(split.unlabeled)
    assert sorted(split.labeled + split.unlabeled) == sorted(NAMES)


def test_same_seed_same_split_whatever_the_order():
    assert draw_split(NAMES, 0.1, seed=1) == draw_split(reversed(NAMES), 0.1, seed=1)
    assert draw_split(NAMES, 0.1, seed=1).checksum != draw_split(NAMES, 0.1, seed=2).checksum


def test_draw_is_pinned():
    """The draw of every python version: first n of ``random.Random(seed).sample`` of the sorted names."""
    split = draw_split([f'{letter}.png' for letter in 'hgfedcba'], count=3, seed=0)
    assert split.labeled == ('d.png', 'g.png', 'h.png')
    assert split.checksum.startswith('48b062ff22240779')


def test_fractions_of_one_seed_are_nested():
    small, large = draw_split(NAMES, 0.02), draw_split(NAMES, count=500)
    assert set(small.labeled) < set(large.labeled)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'fraction': 0}, r'fraction must be a number in \(0, 1\], got 0'),
        ({'fraction': 1.5}, 'got 1.5'),
        ({'fraction': 0.001}, r'fraction 0.001 of 10 images is no image; take at least 0.1'),
        ({'count': 11}, r'count must be an integer in \[1, 10\], got 11'),
        ({'count': 0}, 'got 0'),
        ({}, 'either fraction or count'),
        ({'fraction': 0.5, 'count': 5}, 'either fraction or count'),
        ({'fraction': 0.5, 'seed': -1}, 'seed must be'),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        draw_split(range_names(10), **options)


def test_repeated_and_no_names_are_refused():
    with pytest.raises(DataError, match=r"1 image names occur more than once, for example 'b.png'"):
        draw_split(['b.png', 'a.png', 'b.png'], 0.5)
    with pytest.raises(DataError, match='no image to draw from'):
        draw_split([], 0.5)
    with pytest.raises(DataError, match='more than once'):
        Split(('a.png',), ('a.png', 'b.png'), 0.5, 0)


def test_list_takes_names_and_stems(tmp_path):
    path = tmp_path / 'labeled.txt'
    path.write_text('a/1.png\n\n  b/2 \n')
    split = split_from_list(['a/1.png', 'b/2.jpg', 'b/3.jpg'], path)
    assert split.labeled == ('a/1.png', 'b/2.jpg')
    assert split.unlabeled == ('b/3.jpg',)
    assert split.seed is None
    assert split.checksum == Split(('b/2.jpg', 'a/1.png'), ('b/3.jpg',), 0.9, 5).checksum


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('img_01\nimgg_2\n', r"1 of 2 lines name no image .* 'imgg_2' \(did you mean 'img_02.png'"),
        ('img_01\nimg_01.png\n', 'more than once'),
        ('twin\n', r"'twin' fits 2 images"),
        ('\n', 'no image is labelled'),
    ],
)
def test_bad_lists_are_refused(tmp_path, text, message):
    path = tmp_path / 'labeled.txt'
    path.write_text(text)
    names = ['img_01.png', 'img_02.png', 'twin.png', 'twin.jpg']
    with pytest.raises(DataError, match=message):
        split_from_list(names, path)
    with pytest.raises(DataError, match='does not exist'):
        split_from_list(names, tmp_path / 'absent.txt')


def test_file_comes_back_equal(tmp_path):
    split = draw_split(NAMES, 0.02, seed=2)
    path = tmp_path / 'new' / 'split.json'
    write_split(split, path)
    assert read_split(path) == split
    assert os.listdir(path.parent) == ['split.json']


def test_edited_file_is_refused(tmp_path):
    path = tmp_path / 'split.json'
    write_split(draw_split(NAMES, 0.02), path)
    content = json.loads(path.read_text())
    content['labeled'].append(content['unlabeled'].pop())
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match='do not fit the checksum'):
        read_split(path)


@pytest.mark.parametrize('text', ['{"labeled": ["a.png"', '[]', '{"labeled": []}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / 'split.json'
    path.write_text(text)
    with pytest.raises(DataError, match=r'split.json: is not a split file'):
        read_split(path)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'split.json'
    write_split(draw_split(NAMES, 0.02), path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', full)
    with pytest.raises(DataError, match='No space left on device'):
        write_split(draw_split(NAMES, 0.1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['split.json']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, 'exactly one of fraction, count, list_file, file'),
        ({'fraction': 0.1, 'count': 2}, 'exactly one of'),
        ({'fractoin': 0.1}, r"no key 'fractoin'; did you mean 'fraction'"),
        ({'fraction': 0}, 'fraction must be a number'),
        ({'fraction': 1.2}, 'fraction must be a number'),
    ],
)
def test_bad_config_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make_split(NAMES, options)


def test_config_reaches_every_way(tmp_path):
    """Keys that are None do not count, so that a config can switch off what its base set."""
    expected = draw_split(NAMES, 0.02, seed=4)
    assert make_split(NAMES, {'fraction': 0.02, 'seed': 4, 'count': None}) == expected
    assert make_split(NAMES, {'count': 33, 'seed': 4}).checksum == expected.checksum
    write_split(expected, tmp_path / 'split.json')
    assert make_split(NAMES, {'file': str(tmp_path / 'split.json')}) == expected
    (tmp_path / 'list.txt').write_text('\n'.join(expected.labeled))
    listed = make_split(NAMES, {'list_file': str(tmp_path / 'list.txt'), 'seed': None})
    assert listed.checksum == expected.checksum


def test_file_of_other_images_is_refused(tmp_path):
    write_split(
        draw_split([*range_names(12), 'city/99.png'], fraction=1.0), tmp_path / 'split.json'
    )
    with pytest.raises(DataError, match=r"1 of 13 labeled images are not .* 'city/99.png'"):
        make_split(range_names(12), {'file': str(tmp_path / 'split.json')})


def test_overlap_is_counted():
    check_disjoint({'labeled': ['a', 'b'], 'unlabeled': ['c'], 'val': ['d']})
    with pytest.raises(DataError, match=r"unlabeled and val share 2 of 3 images, for example 'c'"):
        check_disjoint({'labeled': ['a'], 'unlabeled': ['b', 'c', 'd'], 'val': ['d', 'c', 'e']})


def test_images_are_listed_recursively(tmp_path):
    for name in ('b/2.PNG', 'a.jpg', 'notes.txt', '.hidden/1.png', 'b/._2.png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / 'b' / 'circle').symlink_to(tmp_path)
    (tmp_path / 'c').symlink_to(tmp_path / 'b')
    assert list_images(tmp_path) == ['a.jpg', 'b/2.PNG']
    assert list_images(tmp_path / 'c') == ['2.PNG', 'circle/a.jpg']
    with pytest.raises(DataError, match='holds no image'):
        list_images(tmp_path, ['.tif'])
    with pytest.raises(DataError, match='does not exist'):
        list_images(tmp_path / 'absent')


@pytest.fixture
def run_tool(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_tool_draws_nested_files_from_coco(tmp_path, run_tool):
    annotations = tmp_path / 'train.json'
    images = [{'id': i, 'file_name': name} for i, name in enumerate(range_names(50))]
    annotations.write_text(json.dumps({'images': images, 'annotations': [], 'categories': []}))
    out = tmp_path / 'out'
    options = ('--fractions', 0.1, 0.2, '--counts', 7, '--seeds', 0, 1, '--out', out)
    code, table, _ = run_tool(annotations, *options)
    assert code == 0
    kinds = ('count7', 'fraction0.1', 'fraction0.2')
    assert sorted(os.listdir(out)) == [
        f'{kind}_seed{seed}.json' for kind in kinds for seed in (0, 1)
    ]
    for seed in (0, 1):
        small = read_split(out / f'fraction0.1_seed{seed}.json')
        large = read_split(out / f'fraction0.2_seed{seed}.json')
        assert (len(small.labeled), len(large.labeled)) == (5, 10)
        assert set(small.labeled) < set(large.labeled)
        assert small == draw_split(range_names(50), 0.1, seed=seed)
        assert small.checksum[:12] in table


def test_tool_reads_folders_and_lists(tmp_path, run_tool):
    images = tmp_path / 'images'
    images.mkdir()
    for name in range_names(4):
        (images / name).touch()
    listed = tmp_path / 'mine.txt'
    listed.write_text('00001\n')
    assert run_tool(images, '--lists', listed, '--out', tmp_path / 'out')[0] == 0
    assert read_split(tmp_path / 'out' / 'mine.json').labeled == ('00001.png',)


def test_tool_splits_the_listed_images_of_a_folder(tmp_path, run_tool):
    """As of VOC, whose folder holds the images of training and validation."""
    for name in range_names(40):
        (tmp_path / name).touch()
    listed = tmp_path / 'train.txt'
    listed.write_text('\n'.join(Path(name).stem for name in range_names(16)))
    out = tmp_path / 'out'
    options = ('--among', listed, '--fractions', 0.25, '--out', out)
    assert run_tool(tmp_path, *options)[0] == 0
    split = read_split(out / 'fraction0.25_seed0.json')
    assert len(split.labeled) == 4
    assert sorted(split.labeled + split.unlabeled) == range_names(16)
    listed.write_text('99999\n')
    code, _, text = run_tool(tmp_path, *options)
    assert code == 2
    assert "1 of 1 lines name no image of the 40 known ones: '99999'" in text


def test_tool_refuses_in_one_line_and_writes_nothing(tmp_path, run_tool):
    broken = tmp_path / 'train.json'
    broken.write_text('{"images": [')
    for options in ((tmp_path, '--fractions', 0.5), (broken, '--counts', 1)):
        code, _, text = run_tool(*options, '--out', tmp_path / 'out')
        assert code == 2
        assert text.startswith('error: ')
        assert text.count('\n') == 1
        assert str(options[0]) in text
    assert not (tmp_path / 'out').exists()
