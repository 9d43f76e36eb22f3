"""The configs of label maps read the true on-disk formats; nothing reads the labels of the pool."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData

from castkd.datasets.transforms.geometry import relative_homography, warp_semantic
from castkd.errors import DataError
from tests import semantic_fixtures as made
from tests.datasets.test_loaders import relocated
from tests.fixtures import SIZE

BASE = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
MAKERS = {
    'camvid': (11, made.make_camvid),
    'ade20k': (150, made.make_ade20k),
    'voc2012aug': (21, made.make_voc2012aug),
    'cityscapes': (19, made.make_cityscapes),
    'scenes': (19, made.make_cityscapes),
}


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """Folder and truth per maker, made when first asked for."""
    found = {}

    def get(name):
        maker = MAKERS[name][1]
        if maker not in found:
            folder = tmp_path_factory.mktemp(name) / 'data'
            folder.mkdir()
            if maker is made.make_cityscapes:
                folder.rmdir()
            found[maker] = folder, maker(folder)
        return found[maker]

    return get


@pytest.fixture(autouse=True)
def scope_and_seed():
    np.random.seed(0)
    DefaultScope.get_instance('semantic', scope_name='mmseg')
    yield
    DefaultScope._instance_dict.pop('semantic')


def load_config(name, root):
    config = Config.fromfile(BASE / f'{name}_semantic.py')
    moved = relocated(config.to_dict(), config.data_root, f'{root}/')
    loader = moved['train_dataloader']
    loader.update(num_workers=0, persistent_workers=False, batch_size=4)
    loader['batch_sampler']['counts'] = dict(labeled=2, unlabeled=2)
    # Two of the twelve images.
    loader['dataset']['split'] = dict(fraction=1 / 6, seed=0)
    for loader in (moved['val_dataloader'], moved['test_dataloader']):
        loader.update(num_workers=0, persistent_workers=False)
    return Config(moved)


@pytest.fixture(params=MAKERS)
def prepared(request, roots):
    root, truth = roots(request.param)
    return request.param, load_config(request.param, root), truth


def test_validation_labels_are_those_of_the_files(prepared):
    name, config, truth = prepared
    dataset = DATASETS.build(config.val_dataloader.dataset.to_dict())
    assert len(dataset.metainfo['classes']) == len(dataset.metainfo['palette']) == MAKERS[name][0]
    assert len(dataset) == 2
    for index in range(2):
        sample = dataset[index]['data_samples']
        labels = truth['val'][Path(sample.img_path).name]
        assert np.array_equal(sample.gt_sem_seg.data[0].numpy(), labels)


def test_a_batch_has_labels_for_the_labelled_only(prepared):
    """Views of an unlabelled image share their grid; its label map is not even there."""
    _, config, truth = prepared
    loader = Runner.build_dataloader(config.train_dataloader.to_dict(), seed=0)
    assert loader.dataset.sizes == {'labeled': 2, 'unlabeled': 10}
    batch = next(iter(loader))
    samples = {
        view: [sample for sample in found if sample is not None]
        for view, found in batch['data_samples'].items()
    }
    assert {view: len(found) for view, found in samples.items()} == {
        'sup': 2,
        'unsup_teacher': 2,
        'unsup_student': 2,
    }
    for sample in samples['sup']:
        labels = torch.from_numpy(truth['train'][Path(sample.img_path).name].astype(np.int64))
        shown = warp_semantic(labels, torch.tensor(sample.homography_matrix), sample.img_shape)
        own = sample.gt_sem_seg.data[0]
        # Resizing rounds borders one way or the other.
        assert (shown == own).float().mean() > 0.9
        assert own.unique().tolist() != [255]
    for weak, strong in zip(samples['unsup_teacher'], samples['unsup_student'], strict=True):
        assert 'gt_sem_seg' not in weak
        assert 'gt_sem_seg' not in strong
        assert torch.equal(relative_homography(weak, strong), torch.eye(3, dtype=torch.float64))


def test_voc_is_read_at_factors_of_its_own_size(roots):
    """From half to twice, in tenths; any crop is taken, and validation leaves images as they are."""
    config = load_config('voc2012aug', roots('voc2012aug')[0])
    height, width = SIZE
    shapes = {
        (round(height * tenths / 10), round(width * tenths / 10)): tenths for tenths in range(5, 21)
    }
    for name, view in (('labeled', 'sup'), ('unlabeled', 'unsup_teacher')):
        dataset = DATASETS.build(config[f'{name}_dataset'].to_dict())
        drawn = [dataset[index % 12]['data_samples'][view] for index in range(150)]
        assert {shapes[tuple(sample.img_shape)] for sample in drawn} == set(range(5, 21))
        assert {tuple(sample.ori_shape) for sample in drawn} == {SIZE}
    (crop,) = [step for step in config.labeled_pipeline if 'crop_size' in step]
    assert crop.cat_max_ratio == 1
    for sample in DATASETS.build(config.val_dataloader.dataset.to_dict()):
        assert tuple(sample['inputs'].shape[1:]) == tuple(sample['data_samples'].img_shape) == SIZE


def test_evaluators_measure_the_mean_over_classes(roots):
    root, truth = roots('camvid')
    config = load_config('camvid', root)
    loader = Runner.build_dataloader(config.val_dataloader.to_dict())
    evaluator = Runner.build_evaluator(None, config.val_evaluator.to_dict())
    evaluator.dataset_meta = loader.dataset.metainfo
    for batch in loader:
        samples = batch['data_samples']
        for sample in samples:
            sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data % 255)
        evaluator.process(samples, batch)
    metrics = evaluator.evaluate(len(loader.dataset))
    assert metrics['mIoU'] == 100
    assert len(truth['val']) == 2


def test_the_labels_of_the_pool_are_no_precondition(roots, tmp_path):
    """Only labelled images need a map; those of the pool may be missing."""
    truth = made.make_camvid(tmp_path)
    config = load_config('camvid', tmp_path)
    dataset = config.train_dataloader.dataset.to_dict()
    labelled = set(DATASETS.build(dataset).split.labeled)
    for name in truth['train']:
        if name not in labelled:
            (tmp_path / 'labels/train' / name.replace('.jpg', '.png')).unlink()
    assert DATASETS.build(dataset).sizes == {'labeled': 2, 'unlabeled': 10}
    (tmp_path / 'labels/train' / sorted(labelled)[0].replace('.jpg', '.png')).unlink()
    with pytest.raises(DataError, match=r'1 of 2 label maps do not exist, for example'):
        DATASETS.build(dataset)


def test_an_empty_folder_is_told(tmp_path):
    made.make_camvid(tmp_path)
    config = load_config('camvid', tmp_path)
    dataset = config.train_dataloader.dataset.to_dict()
    (tmp_path / 'empty').mkdir()
    dataset['sources']['unlabeled']['data_prefix'] = dict(img='empty')
    with pytest.raises(DataError, match=r"empty' holds no image"):
        DATASETS.build(dataset)
    dataset = config.train_dataloader.dataset.to_dict()
    dataset['sources']['labeled']['data_prefix']['img_path'] = 'empty'
    with pytest.raises(DataError, match=r"has no image that ends in '\.jpg'"):
        DATASETS.build(dataset)


def test_a_listed_image_that_is_not_there_is_told(roots):
    root, _ = roots('voc2012aug')
    config = load_config('voc2012aug', root)
    (root / 'more.txt').write_text('2007_000001\n2007_999999\n')
    source = config.train_dataloader.dataset.sources.unlabeled.to_dict()
    source['names'] = 'more.txt'
    with pytest.raises(DataError, match=r"1 of 2 images .* for example '2007_999999'"):
        DATASETS.build(source)
