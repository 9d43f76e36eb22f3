"""The data sets' configs read the true on-disk formats with mmdet's own classes."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from castkd.datasets.transforms import warp_masks
from tests import fixtures
from tools.convert import ade20k_to_coco, cityscapes_to_coco

BASE = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
# Number of classes and mmdet's data set class.
EXPECTED = {
    'coco': (80, 'CocoDataset'),
    'cityscapes': (8, 'CityscapesDataset'),
    'scenes': (8, 'CityscapesDataset'),
    'ade20k': (100, 'ADE20KInstanceDataset'),
    'nuclei128': (1, 'CocoDataset'),
}


def make_cityscapes(root):
    """Make Cityscapes as it is unpacked, and convert it."""
    truth = fixtures.make_scenes(root)
    for path in root.glob('annotations/*.json'):
        path.unlink()
    cityscapes_to_coco.run(cityscapes_to_coco.parse_arguments([str(root)]))
    return truth


def make_ade20k(root):
    truth = fixtures.make_ade20k(root)
    ade20k_to_coco.run(ade20k_to_coco.parse_arguments([str(root)]))
    return truth


MAKERS = {
    'coco': fixtures.make_coco,
    'cityscapes': make_cityscapes,
    'scenes': fixtures.make_scenes,
    'ade20k': make_ade20k,
    'nuclei128': fixtures.make_nuclei128,
}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """Folder and truth per data set, made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / 'data'
            made[name] = folder, MAKERS[name](folder)
        return made[name]

    return get


@pytest.fixture(autouse=True)
def scope_and_seed():
    np.random.seed(0)
    DefaultScope.get_instance('loaders', scope_name='mmdet')
    yield
    DefaultScope._instance_dict.pop('loaders')


def relocated(value, old, new):
    """Return a config's content with another folder at the start of its paths."""
    if isinstance(value, dict):
        return {key: relocated(item, old, new) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(relocated(item, old, new) for item in value)
    return (
        new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value
    )


def load_config(name, root):
    """Return the config of a data set that lies in ``root``."""
    config = Config.fromfile(BASE / f'{name}_instance.py')
    return Config(relocated(config.to_dict(), config.data_root, f'{root}/'))


def build(config):
    return DATASETS.build(config.to_dict())


@pytest.fixture(params=EXPECTED)
def prepared(request, roots):
    """Name, config and truth of every data set."""
    root, truth = roots(request.param)
    return request.param, load_config(request.param, root), truth


def test_configs_are_read_by_mmdets_classes(prepared):
    name, config, truth = prepared
    count, class_name = EXPECTED[name]
    dataset = build(config.val_dataloader.dataset)
    assert type(dataset).__name__ == class_name
    assert type(dataset).__module__.startswith('mmdet.')
    assert len(dataset.metainfo['classes']) == len(set(dataset.metainfo['classes'])) == count
    assert (
        tuple(dataset.metainfo['classes']) == type(dataset).METAINFO['classes']
        or name == 'nuclei128'
    )
    assert len(dataset) == len(truth['val'])
    assert config.test_dataloader == config.val_dataloader


def test_masks_are_those_that_were_drawn(prepared):
    _, config, truth = prepared
    dataset = build(config.val_dataloader.dataset)
    crowds = 0
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        drawn = truth['val'][Path(sample.img_path).name]
        for found, crowd in ((sample.gt_instances, False), (sample.ignored_instances, True)):
            expected = [(name, mask) for name, mask, is_crowd in drawn if is_crowd == crowd]
            names = [dataset.metainfo['classes'][label] for label in found.labels]
            assert sorted(names) == sorted(name for name, _ in expected)
            for name, mask in zip(names, found.masks.masks, strict=True):
                same = [
                    i
                    for i, (other, drawn_mask) in enumerate(expected)
                    if other == name and (drawn_mask == mask).all()
                ]
                assert len(same) == 1, f'{name} of {sample.img_path}'
                expected.pop(same[0])
            crowds += crowd and len(found)
    has_crowds = any(crowd for objects in truth['val'].values() for *_, crowd in objects)
    assert bool(crowds) == has_crowds


def test_images_have_three_channels_and_the_test_size(prepared):
    name, config, _ = prepared
    sample = build(config.val_dataloader.dataset)[1]
    shapes = {
        'coco': (800, 1067),
        'cityscapes': (1024, 2048),
        'scenes': (128, 256),
        'ade20k': (630, 840),
        'nuclei128': (128, 128),
    }
    assert tuple(sample['inputs'].shape) == (3, *shapes[name])
    assert {'img_id', 'scale_factor', 'ori_shape'} <= set(sample['data_samples'].metainfo)


def first_batch(config):
    """Return the first training batch of one labelled and one unlabelled image."""
    loader = config.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    loader.batch_sampler.counts = {'labeled': 1, 'unlabeled': 1}
    return next(iter(Runner.build_dataloader(loader.to_dict(), seed=0)))


def one(values):
    """Return the only entry that is not None."""
    (value,) = [value for value in values if value is not None]
    return value


def test_training_views_share_their_pixel_grid(prepared):
    name, config, truth = prepared
    batch = first_batch(config)
    assert set(batch['inputs']) == {'sup', 'sup_strong', 'unsup_teacher', 'unsup_student'}
    for weak, strong in (('sup', 'sup_strong'), ('unsup_teacher', 'unsup_student')):
        images = [one(batch['inputs'][view]) for view in (weak, strong)]
        samples = [one(batch['data_samples'][view]) for view in (weak, strong)]
        assert images[0].shape == images[1].shape
        assert not torch.equal(images[0], images[1])
        matrices = [sample.homography_matrix for sample in samples]
        assert np.array_equal(*matrices)
        assert samples[0].img_path == samples[1].img_path
    labeled, unlabeled = (one(batch['data_samples'][view]) for view in ('sup', 'unsup_teacher'))
    assert labeled.img_path != unlabeled.img_path
    assert Path(labeled.img_path).name in truth['train']
    assert len(unlabeled.gt_instances) == 0
    crop = {'coco': 1024, 'cityscapes': 1024, 'scenes': 256, 'ade20k': 630, 'nuclei128': 128}
    assert max(one(batch['inputs']['sup']).shape) <= crop[name]


JITTER = 'mmseg.PhotoMetricDistortion'
JITTERED = ('cityscapes', 'ade20k', 'nuclei128')


def without(config, kind):
    """Return a data set's config whose pipeline, in all branches, lacks the transforms of a type."""
    if isinstance(config, dict):
        return {key: without(value, kind) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        kept = [item for item in config if not (isinstance(item, dict) and item['type'] == kind)]
        return type(config)(without(item, kind) for item in kept)
    return config


@pytest.mark.parametrize('name', JITTERED)
def test_both_views_share_a_colour_jitter_where_the_method_has_one(roots, name):
    config = load_config(name, roots(name)[0])
    labeled = without(config.labeled_dataset.to_dict(), 'castkd.StrongPhotometric')
    moved = without(labeled, JITTER)
    datasets = [build(Config(item)) for item in (labeled, moved)]
    changed = 0
    for index in range(4):
        views = []
        for dataset in datasets:
            np.random.seed(index)
            views.append(dataset[index % len(dataset)]['inputs'])
        assert views[0]['sup'].dtype == torch.uint8
        assert torch.equal(views[0]['sup'], views[0]['sup_strong'])
        changed += not torch.equal(views[0]['sup'], views[1]['sup'])
    assert changed >= 2


def test_weak_views_keep_the_colours(prepared):
    name, config, _ = prepared
    sources = config.train_dataloader.dataset.sources
    plain = without(sources.to_dict(), JITTER)
    assert (plain != sources.to_dict()) == (name in JITTERED)
    config.train_dataloader.dataset.sources = plain
    batch = first_batch(config)
    for weak, strong in (('sup', 'sup_strong'), ('unsup_teacher', 'unsup_student')):
        sample = one(batch['data_samples'][weak])
        moved = cv2.warpPerspective(
            cv2.imread(sample.img_path), sample.homography_matrix, sample.img_shape[::-1]
        )
        errors = [
            np.abs(one(batch['inputs'][view]).permute(1, 2, 0).numpy() - moved.astype(int)).mean()
            for view in (weak, strong)
        ]
        assert errors[0] < 8, f'{weak}: {errors}'
        assert errors[1] > errors[0] + 2, f'{strong}: {errors}'


def test_recorded_geometry_carries_masks_into_the_view(prepared):
    _, config, truth = prepared
    sample = one(first_batch(config)['data_samples']['sup'])
    shape = tuple(sample.img_shape)
    masks = torch.as_tensor(sample.gt_instances.masks.masks).bool()
    classes = config.classes
    drawn = truth['train'][Path(sample.img_path).name]
    matrix = torch.as_tensor(sample.homography_matrix, dtype=torch.float64)
    compared = 0
    for label, mask in zip(sample.gt_instances.labels, masks, strict=True):
        candidates = [torch.as_tensor(item) for name, item, _ in drawn if name == classes[label]]
        carried = warp_masks(torch.stack(candidates), matrix, shape)
        overlaps = (carried & mask).flatten(1).sum(1) / (carried | mask).flatten(1).sum(1).clamp(
            min=1
        )
        if mask.sum() > 200:
            assert overlaps.max() > 0.85
            compared += 1
    assert compared


def test_pseudo_labels_take_the_unlabelled_views(prepared):
    _, config, _ = prepared
    source = config.train_dataloader.dataset.sources.labeled.to_dict()
    dataset = build(Config({**source, 'pipeline': config.pseudo_pipeline}))
    labelled = 0
    for index in range(4):
        samples = dataset[index]['data_samples']
        assert samples['sup'] is None
        weak, strong = samples['unsup_teacher'], samples['unsup_student']
        assert np.array_equal(weak.gt_instances.masks.masks, strong.gt_instances.masks.masks)
        labelled += len(weak.gt_instances)
    assert labelled


def perfect_predictions(dataset):
    """Return predictions that repeat the truth of every image."""
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        truth = sample.gt_instances
        sample.pred_instances = InstanceData(
            labels=truth.labels,
            scores=torch.ones(len(truth)),
            bboxes=truth.bboxes.tensor if hasattr(truth.bboxes, 'tensor') else truth.bboxes,
            masks=torch.as_tensor(truth.masks.masks).bool(),
        )
        yield sample


def evaluate(config, dataset):
    evaluators = config.val_evaluator
    evaluator = Evaluator([evaluators] if isinstance(evaluators, dict) else list(evaluators))
    evaluator.dataset_meta = dataset.metainfo
    for sample in perfect_predictions(dataset):
        evaluator.process(data_samples=[sample], data_batch=None)
    return evaluator.evaluate(len(dataset))


def test_perfect_predictions_score_one(prepared):
    name, config, _ = prepared
    if name == 'cityscapes':
        pytest.importorskip('cityscapesscripts')
    scores = evaluate(config, build(config.val_dataloader.dataset))
    assert scores['coco/segm_mAP'] == pytest.approx(1.0)
    if name == 'cityscapes':
        assert scores['cityscapes/mAP'] == pytest.approx(1.0)
        assert scores['cityscapes/AP@50'] == pytest.approx(1.0)


def test_cityscapes_evaluation_sees_errors(roots):
    pytest.importorskip('cityscapesscripts')
    root, _ = roots('cityscapes')
    config = load_config('cityscapes', root)
    dataset = build(config.val_dataloader.dataset)
    evaluator = Evaluator(list(config.val_evaluator))
    evaluator.dataset_meta = dataset.metainfo
    for sample in perfect_predictions(dataset):
        # Half of every object is missed.
        masks = sample.pred_instances.masks.clone()
        masks[..., ::2] = False
        sample.pred_instances.masks = masks
        evaluator.process(data_samples=[sample], data_batch=None)
    scores = evaluator.evaluate(len(dataset))
    assert scores['cityscapes/mAP'] < 0.2
    assert scores['coco/segm_mAP'] < 0.2


def test_converted_cityscapes_equals_the_generated_files(roots):
    converted, generated = (
        {
            path.name: json.loads(path.read_text())
            for path in sorted((roots(name)[0] / 'annotations').glob('*.json'))
        }
        for name in ('cityscapes', 'scenes')
    )
    assert set(converted) == set(generated)
    for name, content in converted.items():
        for key in ('images', 'annotations', 'categories'):
            assert content[key] == generated[name][key]


def test_labelled_images_are_the_asked_share(roots):
    root, _ = roots('coco')
    config = load_config('coco', root)
    dataset = build(config.train_dataloader.dataset)
    assert dataset.sizes == {'labeled': 1, 'unlabeled': 11}
    assert (
        config.train_dataloader.batch_size
        == sum(config.train_dataloader.batch_sampler.counts.values())
        == 8
    )


def test_all_orientations_of_a_tile_are_drawn(roots):
    root, _ = roots('nuclei128')
    config = load_config('nuclei128', root)
    dataset = build(config.labeled_dataset)
    samples = [dataset[index % 4]['data_samples']['sup'] for index in range(60)]
    seen = Counter(sample.metainfo.get('flip_direction') for sample in samples)
    assert set(seen) == {None, 'horizontal', 'vertical', 'diagonal'}
    assert min(seen.values()) >= 5
