"""The converters, on folders in the form of the originals, and the scenes' command line."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from castkd.errors import DataError
from tests import fixtures
from tools import make_scenes
from tools.convert import ade20k_to_coco, cityscapes_to_coco, nuclei

ROOT = Path(__file__).parents[2]


@pytest.fixture
def six_held_out(monkeypatch):
    """Hold out one image for test and one for validation, not a hundred each."""
    monkeypatch.setattr(nuclei, 'HELD_OUT', {'test': 1, 'val': 1})


def convert_nuclei(tmp_path):
    truth = fixtures.make_stage1_train(tmp_path / 'stage1_train')
    options = [str(tmp_path / 'stage1_train'), '--out', str(tmp_path / 'data')]
    nuclei.run(nuclei.parse_arguments(options))
    order = sorted(truth, key=lambda name: hashlib.md5(name.encode()).hexdigest())
    return tmp_path / 'data', [truth[name] for name in order]


def read(path):
    content = json.loads(path.read_text())
    objects = {image['id']: [] for image in content['images']}
    for item in content['annotations']:
        objects[item['image_id']].append(item)
    return content, objects


@pytest.mark.usefixtures('six_held_out')
def test_nuclei_whole_images(tmp_path):
    data, truth = convert_nuclei(tmp_path)
    next_id = 1
    for split, indices in (('test', [0]), ('val', [1]), ('train', [2, 3, 4, 5])):
        content, objects = read(data / 'nuclei' / f'{split}.json')
        assert [image['id'] for image in content['images']] == indices
        assert content['categories'] == [{'id': 1, 'name': 'nucleus'}]
        for image in content['images']:
            original, masks = truth[image['id']]
            stored = cv2.imread(
                str(data / 'nuclei' / split / image['file_name']), cv2.IMREAD_UNCHANGED
            )
            grey = (original[..., 0] == original[..., 1]).all()
            assert (stored == (original[..., 0] if grey else original[..., :3])).all()
            # The nucleus of four pixels is dropped.
            kept = [mask for mask in masks if mask.sum() >= 5]
            assert len(kept) == 5
            found = [coco_mask.decode(item['segmentation']) for item in objects[image['id']]]
            assert np.array_equal(found, kept)
            assert [item['id'] for item in objects[image['id']]] == list(
                range(next_id, next_id + 5)
            )
            next_id += 5


@pytest.mark.usefixtures('six_held_out')
def test_nuclei_tiles(tmp_path):
    data, truth = convert_nuclei(tmp_path)
    content, objects = read(data / 'nuclei128' / 'train.json')
    # The second tile holds 8 of 16 columns of one nucleus, and two whole ones.
    assert sorted(image['file_name'] for image in content['images']) == [
        f'{index:04d}_0000_{x:04d}.png' for index in (2, 3, 4, 5) for x in (0, 128)
    ]
    assert [image['id'] for image in content['images']] == list(range(1, 9))
    for image in content['images']:
        index, top, left = (int(part) for part in image['file_name'][:-4].split('_'))
        original, masks = truth[index]
        window = slice(top, top + 128), slice(left, left + 128)
        stored = cv2.imread(
            str(data / 'nuclei128' / 'train' / image['file_name']), cv2.IMREAD_UNCHANGED
        )
        grey = stored.ndim == 2
        assert (stored == (original[..., 0] if grey else original[..., :3])[window]).all()
        whole = [mask for mask in masks if mask.sum() >= 5]
        parts = [mask[window] for mask in whole if 4 * mask[window].sum() >= mask.sum()]
        found = [coco_mask.decode(item['segmentation']) for item in objects[image['id']]]
        assert len(found) == 3
        assert np.array_equal(found, parts)


@pytest.mark.usefixtures('six_held_out')
def test_nuclei_subsets_are_dark_grey_and_coloured_tiles(tmp_path):
    data, _ = convert_nuclei(tmp_path)
    everything, _ = read(data / 'nuclei128' / 'train.json')
    names = {}
    for kind in ('cells', 'stained'):
        content, objects = read(data / 'nuclei128' / f'train_{kind}.json')
        assert all(image in everything['images'] for image in content['images'])
        assert all(item in everything['annotations'] for item in content['annotations'])
        assert all(objects.values())
        names[kind] = {image['file_name'] for image in content['images']}
        for name in names[kind]:
            tile = cv2.imread(str(data / 'nuclei128' / 'train' / name), cv2.IMREAD_UNCHANGED)
            assert tile.ndim == 3 if kind == 'stained' else tile.ndim == 2 and tile.mean() <= 127
    assert names['stained']
    assert not names['stained'] & names['cells']


def test_nuclei_tiles_with_too_many_or_too_few_nuclei_are_left_out():
    one = fixtures.rectangle(10, 10, 30, 30, (128, 128))
    spots = [
        fixtures.rectangle(y, x, y + 5, x + 5, (128, 128))
        for y in range(0, 120, 18)
        for x in range(0, 120, 18)
    ]
    image = np.zeros((128, 128), dtype=np.uint8)
    counts = {}
    for count in (1, 2, 40, 41):
        masks = [one] if count == 1 else spots[:count]
        counts[count] = len(list(nuclei.tiles_of(nuclei.Sample(7, image, masks))))
    assert counts == {1: 0, 2: 1, 40: 1, 41: 0}


@pytest.mark.parametrize(
    ('inside', 'whole', 'belongs'),
    [(20, 80, True), (20, 81, False), (19, 40, False), (30, 30, True)],
)
def test_nuclei_belong_to_a_tile_with_20_pixels_and_a_quarter(inside, whole, belongs):
    size = (128, 256)
    fillers = [fixtures.rectangle(y, 10, y + 10, 30, size) for y in (20, 60)]
    cut = fixtures.rectangle(0, 128 - inside, 1, 128 - inside + whole, size)
    sample = nuclei.Sample(0, np.zeros(size, dtype=np.uint8), [*fillers, cut])
    (tile,) = (tile for tile in nuclei.tiles_of(sample) if tile.name == '0000_0000_0000.png')
    assert len(tile.masks) == 2 + belongs


def test_nuclei_has_at_most_four_tiles_of_an_image_in_an_order_of_its_own():
    masks = [
        fixtures.rectangle(y + dy, x + 10, y + dy + 10, x + 20, (384, 384))
        for y in (0, 128, 256)
        for x in (0, 128, 256)
        for dy in (10, 40)
    ]
    image = np.zeros((384, 384), dtype=np.uint8)
    orders = [
        [tile.name[5:] for tile in nuclei.tiles_of(nuclei.Sample(i, image, masks))]
        for i in (1, 2, 1)
    ]
    assert len(orders[0]) == 4
    assert orders[0] == orders[2] != orders[1]


@pytest.mark.data
@pytest.mark.parametrize('split', ['train', 'val'])
def test_nuclei_tiles_equal_the_distributed_ones(split):
    whole, tiled = ROOT / 'data' / 'nuclei', ROOT / 'data' / 'nuclei128'
    if not (whole.is_dir() and tiled.is_dir()):
        pytest.skip('data/nuclei and data/nuclei128 are not there')
    images, objects = read(whole / f'{split}.json')
    tiles, tile_objects = read(tiled / f'{split}.json')
    expected = iter(tiles['images'])
    for image in images['images'][:12]:
        pixels = cv2.imread(str(whole / split / image['file_name']), cv2.IMREAD_UNCHANGED)
        masks = [
            coco_mask.decode(item['segmentation']).astype(bool) for item in objects[image['id']]
        ]
        for tile in nuclei.tiles_of(nuclei.Sample(image['id'], pixels, masks)):
            other = next(expected)
            assert tile.name == other['file_name']
            stored = cv2.imread(str(tiled / split / tile.name), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(tile.image, stored)
            found = [coco_mask.decode(item['segmentation']) for item in tile_objects[other['id']]]
            assert np.array_equal(tile.masks, found)


@pytest.mark.usefixtures('six_held_out')
def test_nuclei_with_a_fault_leave_nothing_behind(tmp_path):
    fixtures.make_stage1_train(tmp_path / 'stage1_train')
    broken = tmp_path / 'stage1_train' / 'id3' / 'masks' / '0.png'
    broken.write_bytes(broken.read_bytes()[:-8])
    options = [str(tmp_path / 'stage1_train'), '--out', str(tmp_path / 'data')]
    with pytest.raises(DataError, match=r"id3/masks/0\.png' is no whole PNG file"):
        nuclei.run(nuclei.parse_arguments(options))
    assert list((tmp_path / 'data').iterdir()) == []


def test_nuclei_need_more_images_than_are_held_out(tmp_path):
    fixtures.make_stage1_train(tmp_path)
    with pytest.raises(DataError, match='holds 6 folders with images, more than 200 are needed'):
        nuclei.ordered_folders(tmp_path)


def test_nuclei_refuse_a_folder_that_is_there(tmp_path):
    (tmp_path / 'nuclei').mkdir()
    (tmp_path / 'nuclei' / 'mine').write_text('precious')
    with pytest.raises(DataError, match='is there already'):
        nuclei.run(nuclei.parse_arguments([str(tmp_path), '--out', str(tmp_path)]))
    assert (tmp_path / 'nuclei' / 'mine').read_text() == 'precious'


def test_ade20k_ids_are_those_of_the_benchmark(tmp_path):
    truth = fixtures.make_ade20k(tmp_path)
    ade20k_to_coco.run(ade20k_to_coco.parse_arguments([str(tmp_path)]))
    content, objects = read(tmp_path / 'ade20k_instance_val.json')
    assert [image['id'] for image in content['images']] == [1, 2]
    assert content['categories'][0] == {'id': 1, 'name': 'bed'}
    assert content['categories'][99] == {'id': 100, 'name': 'flag'}
    for image in content['images']:
        expected = {
            (1 if name == 'bed' else 100, mask.tobytes())
            for name, mask, _ in truth['val'][image['file_name']]
        }
        found = {
            (item['category_id'], coco_mask.decode(item['segmentation']).astype(bool).tobytes())
            for item in objects[image['id']]
        }
        assert found == expected


def test_ade20k_refuses_a_semantic_map(tmp_path):
    fixtures.make_ade20k(tmp_path)
    path = tmp_path / 'annotations_instance' / 'validation' / 'ADE_val_00000001.png'
    cv2.imwrite(str(path), np.full(fixtures.SIZE, 3, dtype=np.uint8))
    with pytest.raises(DataError, match=r'ADE_val_00000001\.png.*annotations_instance\.tar'):
        ade20k_to_coco.run(ade20k_to_coco.parse_arguments([str(tmp_path)]))
    assert not list(tmp_path.glob('*.json'))


def test_cityscapes_names_a_missing_map(tmp_path):
    fixtures.make_scenes(tmp_path / 'data', 1, 1, size=(32, 64))
    (path,) = (tmp_path / 'data/gtFine/val').glob('*/*_instanceIds.png')
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        cityscapes_to_coco.run(cityscapes_to_coco.parse_arguments([str(tmp_path / 'data')]))


def test_cityscapes_refuses_ids_that_it_does_not_have(tmp_path):
    fixtures.make_scenes(tmp_path / 'data', 1, 1, size=(32, 64))
    (path,) = (tmp_path / 'data/gtFine/val').glob('*/*_instanceIds.png')
    cv2.imwrite(str(path), np.full((32, 64), 60001, dtype=np.uint16))
    with pytest.raises(DataError, match='60001 is no Cityscapes instance id'):
        cityscapes_to_coco.run(cityscapes_to_coco.parse_arguments([str(tmp_path / 'data')]))


def test_maps_of_another_size_or_form_are_refused_and_nothing_is_written(tmp_path):
    fixtures.make_scenes(tmp_path / 'city', 1, 1, size=(32, 64))
    fixtures.make_ade20k(tmp_path / 'ade')
    for path in tmp_path.rglob('*.json'):
        path.unlink()
    (city,) = (tmp_path / 'city/gtFine/val').glob('*/*_instanceIds.png')
    ade = tmp_path / 'ade/annotations_instance/validation/ADE_val_00000001.png'
    wrong = [
        (city, np.zeros((32, 60), np.uint16), r'60 x 32 pixels, its image .* 64 x 32; take'),
        (city, np.zeros((32, 64, 3), np.uint8), r'has 3 channels and must have 1'),
        (
            ade,
            np.zeros((10, 20, 3), np.uint8),
            r'20 x 10 pixels, its image .*ADE_val_00000001\.jpg',
        ),
        (ade, np.zeros((*fixtures.SIZE, 4), np.uint8), r'has 4 channels and must have 3'),
    ]
    for path, pixels, message in wrong:
        cv2.imwrite(str(path), pixels)
        tool = cityscapes_to_coco if path == city else ade20k_to_coco
        root = tmp_path / ('city' if path == city else 'ade')
        with pytest.raises(DataError, match=message):
            tool.run(tool.parse_arguments([str(root)]))
    assert not list(tmp_path.rglob('*.json'))


def test_a_damaged_image_is_one_line(tmp_path):
    fixtures.make_scenes(tmp_path, 1, 1, size=(32, 64))
    (path,) = (tmp_path / 'leftImg8bit/train').glob('*/*.png')
    path.write_bytes(b'none')
    with pytest.raises(DataError, match='is no image') as caught:
        cityscapes_to_coco.run(cityscapes_to_coco.parse_arguments([str(tmp_path)]))
    assert path.name in str(caught.value)
    assert '\n' not in str(caught.value)


def test_the_summary_counts_objects_groups_and_empty_images(tmp_path, capsys):
    truth = fixtures.make_ade20k(tmp_path)
    path = tmp_path / 'annotations_instance' / 'training' / 'ADE_train_00000003.png'
    cv2.imwrite(str(path), np.zeros((*fixtures.SIZE, 3), dtype=np.uint8))
    ade20k_to_coco.run(ade20k_to_coco.parse_arguments([str(tmp_path)]))
    assert len(truth['train']) == 12
    line = next(line for line in capsys.readouterr().out.splitlines() if 'train.json' in line)
    assert line.endswith(
        '12 images (1 without an object), 33 objects of 100 classes (fewest: windowpane 0), 0 groups'
    )


@pytest.mark.parametrize(
    ('tool', 'hint'), [(cityscapes_to_coco, 'leftImg8bit'), (ade20k_to_coco, 'ADE')]
)
def test_an_empty_folder_says_what_belongs_there(tmp_path, tool, hint):
    with pytest.raises(DataError, match=f'holds no .*{hint}'):
        tool.run(tool.parse_arguments([str(tmp_path)]))


def test_make_scenes_says_what_it_did(tmp_path, capsys):
    options = [
        '--out',
        str(tmp_path / 's'),
        '--train',
        '2',
        '--val',
        '1',
        '--size',
        '32',
        '64',
        '--seed',
        '3',
    ]
    make_scenes.make(make_scenes.parse_arguments(options))
    assert 'wrote 2 training and 1 validation scenes' in capsys.readouterr().out
    make_scenes.make(make_scenes.parse_arguments(options))
    assert 'kept 2 training and 1 validation scenes' in capsys.readouterr().out
    made = json.loads((tmp_path / 's' / 'scenes.json').read_text())
    assert (made['num_train'], made['num_val'], made['size'], made['seed']) == (2, 1, [32, 64], 3)


def test_make_scenes_refuses_with_status_2(tmp_path, capsys, monkeypatch):
    (tmp_path / 'mine.txt').write_text('precious')
    monkeypatch.setattr('sys.argv', ['make_scenes.py', '--out', str(tmp_path)])
    assert make_scenes.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
