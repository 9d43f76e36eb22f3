"""Generated street scenes: seeded, of any size, and a true copy of Cityscapes' layout."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label
from pycocotools import mask as coco_mask

from castkd.datasets.conversion import CITYSCAPES_THINGS, cityscapes_instances
from castkd.datasets.scenes import (
    figures,
    generate,
    generate_scenes,
    make_scene,
    paint_scene,
    painter,
    vehicles,
)
from castkd.errors import ConfigError, DataError

CLASSES = ['person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle']


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Scenes on disk: 5 for training, 3 for validation."""
    folder = tmp_path_factory.mktemp('scenes') / 'made'
    assert generate_scenes(folder, num_train=5, num_val=3, size=(64, 128))
    return folder


@pytest.fixture(scope='module')
def street():
    """The objects of 40 images, as (category, mask) per image."""
    images = [make_scene('train', index, (96, 192)) for index in range(40)]
    return [
        [item for item in cityscapes_instances(scene.instance_ids, 'scene') if not item.crowd]
        for scene in images
    ]


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob('*')
        if path.is_file()
    }


def test_layout_is_that_of_cityscapes(scenes):
    files = set(files_of(scenes))
    expected = {'scenes.json'}
    for split, city, count in (('train', 'linden', 5), ('val', 'weiden', 3)):
        expected.add(f'annotations/instancesonly_filtered_gtFine_{split}.json')
        for index in range(count):
            stem = f'{split}/{city}/{city}_{index:06d}_000019'
            expected.add(f'leftImg8bit/{stem}_leftImg8bit.png')
            kinds = ('instanceIds', 'labelIds', 'labelTrainIds')
            expected |= {f'gtFine/{stem}_gtFine_{kind}.png' for kind in kinds}
    assert files == expected


def test_same_parameters_give_the_same_files(scenes, tmp_path):
    generate_scenes(tmp_path / 'again', num_train=5, num_val=3, size=(64, 128))
    assert files_of(tmp_path / 'again') == files_of(scenes)


def test_an_image_depends_on_seed_split_and_index_only(scenes, tmp_path):
    generate_scenes(tmp_path / 'more', num_train=6, num_val=1, size=(64, 128))
    more, fewer = files_of(tmp_path / 'more'), files_of(scenes)
    images = [name for name in fewer if name.endswith('.png') and name in more]
    assert len(images) == 4 * (5 + 1)
    assert all(more[name] == fewer[name] for name in images)
    first = make_scene('train', 0, (64, 128)).image
    others = [
        make_scene('train', 1, (64, 128)),
        make_scene('val', 0, (64, 128)),
        make_scene('train', 0, (64, 128), seed=1),
    ]
    assert all(np.abs(first.astype(int) - other.image).mean() > 5 for other in others)


@pytest.mark.parametrize('size', [(32, 32), (50, 91), (200, 120)])
def test_any_size(size):
    scene = make_scene('val', 3, size)
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.instance_ids.shape == size
    assert scene.instance_ids.dtype == np.uint16
    assert scene.instance_ids.max() >= 1000


def test_maps_agree_with_each_other(scenes):
    for path in scenes.glob('gtFine/*/*/*_instanceIds.png'):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert ids.dtype == np.uint16
        labels = cv2.imread(str(path).replace('instanceIds', 'labelIds'), cv2.IMREAD_UNCHANGED)
        train_ids = cv2.imread(
            str(path).replace('instanceIds', 'labelTrainIds'), cv2.IMREAD_UNCHANGED
        )
        assert (labels == np.where(ids >= 1000, ids // 1000, ids)).all()
        for label in np.unique(labels).tolist():
            assert (train_ids[labels == label] == id2label[label].trainId).all()
        assert {7, 11} <= set(np.unique(labels).tolist()), 'a street without road or houses'


def test_json_and_maps_hold_the_same_objects(scenes):
    for split in ('train', 'val'):
        path = scenes / 'annotations' / f'instancesonly_filtered_gtFine_{split}.json'
        content = json.loads(path.read_text())
        assert [item['name'] for item in content['categories']] == CLASSES
        assert min(item['id'] for item in content['annotations']) == 1
        for image in content['images']:
            name = image['file_name'].replace('leftImg8bit', 'gtFine_instanceIds')
            ids = cv2.imread(str(scenes / 'gtFine' / split / name), cv2.IMREAD_UNCHANGED)
            assert (image['height'], image['width']) == ids.shape
            rebuilt = np.zeros_like(ids)
            numbers = Counter()
            for item in content['annotations']:
                if item['image_id'] != image['id']:
                    continue
                mask = coco_mask.decode(item['segmentation']).astype(bool)
                label = item['category_id']
                assert item['area'] == mask.sum()
                assert item['bbox'] == coco_mask.toBbox(item['segmentation']).tolist()
                assert not rebuilt[mask].any()
                rebuilt[mask] = label if item['iscrowd'] else 1000 * label + numbers[label]
                numbers[label] += not item['iscrowd']
            things = np.isin(np.where(ids >= 1000, ids // 1000, ids), list(CITYSCAPES_THINGS))
            assert (rebuilt == np.where(things, ids, 0)).all()


def test_every_class_appears(street):
    counts = Counter(CITYSCAPES_THINGS[item.category] for image in street for item in image)
    assert set(counts) == set(CLASSES)
    assert min(counts.values()) >= 4
    assert all(image for image in street), 'an image without any object'
    assert 5 <= sum(counts.values()) / len(street) <= 12


def test_objects_differ_in_scale_and_hide_each_other(street):
    areas = [item.mask.mean() for image in street for item in image]
    assert min(areas) < 0.002
    assert max(areas) > 0.1
    touching = 0
    for image in street:
        grown = [cv2.dilate(item.mask.astype(np.uint8), np.ones((3, 3))) for item in image]
        total = np.sum(grown, axis=0) if grown else np.zeros(1)
        touching += bool((total > 1).any())
    assert touching > len(street) / 2


def test_nearer_objects_are_larger_and_lower(street):
    cars = [
        (np.nonzero(item.mask)[0].max(), item.mask.sum())
        for image in street
        for item in image
        if CITYSCAPES_THINGS[item.category] == 'car'
    ]
    bottoms, areas = np.array(cars).T
    assert np.corrcoef(bottoms, np.log(areas))[0, 1] > 0.6


def test_near_objects_hide_far_ones_whatever_the_order(monkeypatch):
    def scene_with(order):
        def objects(street, camera, rng, light):
            x = street.lanes[1]
            near = figures.person((x, 7.0), camera, np.random.default_rng(1))
            far = vehicles.vehicle(
                vehicles.BUS, (x, 20.0), 0.0, camera, np.random.default_rng(1), False
            )
            return [[near, far], [far, near], [near]][order]

        monkeypatch.setattr(painter, 'place_objects', objects)
        monkeypatch.setattr(painter, 'place_scenery', lambda *_: [])
        return paint_scene(np.random.default_rng(0), (96, 192)).instance_ids

    both, swapped, alone = (scene_with(order) for order in range(3))
    assert np.array_equal(both, swapped)
    assert (both == 28000).sum() > 200
    assert np.array_equal(both == 24000, alone == 24000)


def test_an_image_without_objects_is_painted_again(monkeypatch):
    empty = make_scene('train', 0, (64, 128), empty_fraction=1.0)
    assert empty.instance_ids.max() < 1000
    attempts = []

    def unlucky(rng, size, with_objects):
        attempts.append(rng.random())
        return empty if len(attempts) < 3 else paint_scene(rng, size, with_objects)

    monkeypatch.setattr(generate, 'paint_scene', unlucky)
    assert make_scene('train', 0, (64, 128)).instance_ids.max() >= 1000
    assert len(set(attempts)) == len(attempts) >= 3


def test_empty_images_on_demand(tmp_path):
    generate_scenes(tmp_path / 'empty', 2, 1, size=(64, 128), empty_fraction=1.0)
    path = tmp_path / 'empty/annotations/instancesonly_filtered_gtFine_train.json'
    content = json.loads(path.read_text())
    assert len(content['images']) == 2
    assert content['annotations'] == []


def test_scenes_that_are_there_are_kept(scenes):
    before = {path: path.stat().st_mtime_ns for path in scenes.rglob('*')}
    assert not generate_scenes(scenes, num_train=5, num_val=3, size=(64, 128))
    assert before == {path: path.stat().st_mtime_ns for path in scenes.rglob('*')}


def test_other_parameters_are_refused_in_one_line(scenes):
    before = files_of(scenes)
    with pytest.raises(DataError, match=r'num_train=5 instead of 4, seed=0 instead of 7') as caught:
        generate_scenes(scenes, num_train=4, num_val=3, size=(64, 128), seed=7)
    assert '\n' not in str(caught.value)
    assert files_of(scenes) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / 'mine.txt').write_text('precious')
    with pytest.raises(DataError, match=r'no readable scenes\.json'):
        generate_scenes(tmp_path, 1, 1, size=(32, 32))
    assert files_of(tmp_path) == {'mine.txt': b'precious'}


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(split, index, *rest):
        if split == 'val':
            raise KeyboardInterrupt
        return make_scene(split, index, *rest)

    monkeypatch.setattr(generate, 'make_scene', interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_scenes(tmp_path / 'scenes', 1, 1, size=(32, 32))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ({'num_train': 0}, 'num_train'),
        ({'num_val': 1.5}, 'num_val'),
        ({'size': (16, 64)}, 'height'),
        ({'seed': -1}, 'seed'),
        ({'empty_fraction': 1.2}, 'empty_fraction'),
    ],
)
def test_arguments_are_checked(tmp_path, options, named):
    with pytest.raises(ConfigError, match=named):
        generate_scenes(tmp_path / 'scenes', **options)
    assert not (tmp_path / 'scenes').exists()


def test_mmseg_reads_them_unchanged(scenes):
    from mmseg.datasets import CityscapesDataset

    dataset = CityscapesDataset(
        data_root=str(scenes),
        data_prefix={'img_path': 'leftImg8bit/train', 'seg_map_path': 'gtFine/train'},
        pipeline=[],
    )
    assert len(dataset) == 5
    for index in range(5):
        info = dataset[index]
        labels = cv2.imread(info['seg_map_path'], cv2.IMREAD_UNCHANGED)
        assert labels.shape == cv2.imread(info['img_path']).shape[:2] == (64, 128)
        assert set(np.unique(labels).tolist()) <= {*range(19), 255}
