import random
import shutil
from contextlib import nullcontext

import cv2
import mmdet.datasets  # noqa: F401  (registers datasets and transforms)
import mmseg.datasets  # noqa: F401
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from torch.utils.data import DataLoader

from castkd.datasets import Draw, ImageFolder, RatioBatchSampler, SourceDataset
from castkd.datasets.reading import image_files, image_names
from castkd.datasets.source import seeded
from castkd.datasets.splits import draw_split, write_split
from castkd.errors import ConfigError, DataError
from tests.datasets.small_coco import (
    POOL_PIPELINE,
    coco,
    folder,
    names,
    write_annotations,
    write_images,
)


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path)
    return tmp_path


def build(root, split=None, **options):
    split = {'fraction': 0.25, 'seed': 0} if split is None else split
    return SourceDataset({'labeled': coco(root, **options), 'unlabeled': folder(root)}, split)


def stream(dataset, steps=5):
    sampler = RatioBatchSampler({'labeled': 2, 'unlabeled': 3}, dataset=dataset, seed=7)
    return [[summary(dataset[draw]) for draw in sampler.batch(step)] for step in range(steps)]


def summary(item):
    sample = item['data_samples']
    boxes = sample.gt_instances.bboxes
    return (
        item['inputs'].numpy().tobytes(),
        sample.img_path,
        np.asarray(sample.homography_matrix).tobytes(),
        getattr(boxes, 'tensor', boxes).numpy().tobytes(),
        sample.gt_instances.masks.masks.tobytes(),
        sample.gt_instances.labels.numpy().tobytes(),
    )


def test_sources_share_the_images(root):
    dataset = build(root)
    assert dataset.sizes == {'labeled': 3, 'unlabeled': 9}
    assert len(dataset) == 12
    assert dataset.split == draw_split(names(), 0.25, seed=0)
    assert image_names(dataset.datasets['labeled']) == list(dataset.split.labeled)
    assert image_names(dataset.datasets['unlabeled']) == list(dataset.split.unlabeled)
    assert dataset.metainfo['classes'] == ('thing',)


def test_items_come_from_their_source(root):
    dataset = build(root)
    labeled, pooled = dataset[Draw('labeled', 1, 3)], dataset[Draw('unlabeled', 4, 3)]
    assert labeled['data_samples'].img_path.endswith(dataset.split.labeled[1])
    assert len(labeled['data_samples'].gt_instances) == 1
    assert pooled['data_samples'].img_path.endswith(dataset.split.unlabeled[4])
    assert len(pooled['data_samples'].gt_instances) == 0


def test_pool_never_sees_labels(root):
    """The stream of batches is the same, bit for bit, once the pool's annotations are gone."""
    before = build(root)
    expected = stream(before)
    write_annotations(root / 'train.json', names(), before.split.labeled)
    after = build(root)
    assert after.split == before.split
    assert stream(after) == expected


def test_pool_needs_no_annotation_file(root):
    """With a list of the labelled images, a file that knows no other image gives the same stream."""
    before = build(root)
    expected = stream(before)
    listed = root / 'labeled.txt'
    listed.write_text('\n'.join(before.split.labeled))
    labeled = before.split.labeled[::-1]  # the order in the file plays no role
    write_annotations(root / 'labeled.json', labeled, labeled)
    (root / 'train.json').unlink()
    after = build(root, {'list_file': str(listed)}, ann_file='labeled.json')
    assert stream(after) == expected


def test_split_file_serves_a_labelled_only_annotation_file(root):
    split = draw_split(names(), count=4, seed=5)
    write_split(split, root / 'split.json')
    write_annotations(root / 'labeled.json', split.labeled, split.labeled)
    dataset = build(root, {'file': str(root / 'split.json')}, ann_file='labeled.json')
    assert dataset.split == split
    assert dataset.sizes == {'labeled': 4, 'unlabeled': 8}


def test_item_depends_on_its_draw_alone(root):
    dataset = build(root)
    draw = Draw('unlabeled', 2, 11)
    first = summary(dataset[draw])
    np.random.seed(5)
    torch.manual_seed(5)
    for index in range(4):
        dataset[Draw('unlabeled', index, index)]
    assert summary(dataset[draw]) == first
    assert summary(dataset[draw._replace(seed=12)]) != first


def test_workers_do_not_matter(root):
    dataset = build(root)
    batches = []
    for workers in (0, 2):
        sampler = RatioBatchSampler({'labeled': 1, 'unlabeled': 2}, dataset=dataset, seed=1)
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=list)
        iterator = iter(loader)
        batches.append([[summary(item) for item in next(iterator)] for _ in range(4)])
        del iterator
    assert batches[0] == batches[1]


def test_random_states_come_from_the_seed_and_are_put_back():
    def draws(seed=None):
        with nullcontext() if seed is None else seeded(seed):
            return random.random(), np.random.rand(), torch.rand(1).item()

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    inside = draws(2**32 - 1)
    assert draws() == expected
    assert draws(2**32 - 1) == inside
    assert all(a != b for a, b in zip(draws(0), inside, strict=True))


def test_labelled_images_without_objects_stay_out_of_the_pool(root):
    """A labelled image that filter_cfg drops is known to be empty; it is not unlabelled."""
    labeled = draw_split(names(), 0.25).labeled
    write_annotations(root / 'train.json', names(), labeled[1:])
    dataset = build(root)
    assert dataset.sizes == {'labeled': 2, 'unlabeled': 9}


def test_filter_lazy_and_serialised_options_work(root):
    plain = build(root, {'count': 5}, filter_cfg=None)
    lazy = build(root, {'count': 5}, lazy_init=True, serialize_data=True)
    assert lazy.sizes == plain.sizes == {'labeled': 5, 'unlabeled': 7}
    assert stream(lazy, 2) == stream(plain, 2)


def test_indices_limit_what_is_drawn_from(root):
    dataset = SourceDataset({'labeled': coco(root, indices=[3, 4, 5, 6])}, {'fraction': 0.5})
    assert len(dataset.split.labeled) == len(dataset.split.unlabeled) == 2
    assert set(dataset.split.labeled) < set(names()[3:7])


def test_without_split_sources_stay_as_they_are(root):
    dataset = SourceDataset(
        {'labeled': coco(root), 'unlabeled': folder(root), 'more': folder(root)}
    )
    assert dataset.sizes == {'labeled': 12, 'unlabeled': 12, 'more': 12}
    assert dataset.split is None


def test_built_datasets_are_taken(root):
    built = ImageFolder(str(root), {'img': 'images'}, pipeline=POOL_PIPELINE)
    dataset = SourceDataset({'labeled': coco(root), 'unlabeled': built}, {'count': 2})
    assert dataset.sizes == {'labeled': 2, 'unlabeled': 10}


def test_semantic_datasets_work(root):
    for name in names():
        path = root / 'maps' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((24, 32), 1, np.uint8))
    load = {'type': 'castkd.LoadImage'}
    flip = {'type': 'mmseg.RandomFlip', 'prob': 1.0}
    pack = {'type': 'mmseg.PackSegInputs'}
    labeled = {
        'type': 'mmseg.BaseSegDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': 'images', 'seg_map_path': 'maps'},
        'img_suffix': '.png',
        'metainfo': {'classes': ('road', 'sky')},
        'pipeline': [load, {'type': 'mmseg.LoadAnnotations'}, flip, pack],
    }
    pool = folder(root, pipeline=[load, flip, pack])
    dataset = SourceDataset({'labeled': labeled, 'unlabeled': pool}, {'fraction': 0.25})
    assert dataset.sizes == {'labeled': 3, 'unlabeled': 9}
    assert (dataset[Draw('labeled', 0, 0)]['data_samples'].gt_sem_seg.data == 1).all()
    assert 'gt_sem_seg' not in dataset[Draw('unlabeled', 0, 0)]['data_samples']


@pytest.mark.parametrize('place', ['', 'link'])
def test_labelled_images_are_left_out_whatever_the_pools_root(root, place):
    """Names differ, because the pool's root lies higher, but the files are the same."""
    (root / 'link').symlink_to(root)
    pool = folder(root, data_prefix={'img': place})
    dataset = SourceDataset({'labeled': coco(root), 'unlabeled': pool}, {'count': 5})
    assert dataset.sizes['unlabeled'] == 7
    files = [set(image_files(source)) for source in dataset.datasets.values()]
    assert not files[0] & files[1]


def test_pool_of_copies_or_through_a_link_loses_the_labelled_images(root):
    (root / 'link').symlink_to(root / 'images')
    shutil.copytree(root / 'images', root / 'copies')
    for place in ('link', 'copies'):
        pool = folder(root, data_prefix={'img': place})
        dataset = SourceDataset({'labeled': coco(root), 'unlabeled': pool}, {'count': 5})
        assert image_names(dataset.datasets['unlabeled']) == list(dataset.split.unlabeled)


def test_pool_without_any_labelled_image_is_refused(root):
    (root / 'other').mkdir()
    shutil.copy(root / 'images' / names()[0], root / 'other' / 'strange.png')
    pool = folder(root, data_prefix={'img': 'other'})
    with pytest.raises(DataError, match=r"none of the 5 labeled images below '.*images' .*other'"):
        SourceDataset({'labeled': coco(root), 'unlabeled': pool}, {'count': 5})
    beside = {'labeled': coco(root), 'unlabeled': folder(root), 'extra': pool}
    assert SourceDataset(beside, {'count': 5}).sizes == {'labeled': 5, 'unlabeled': 7, 'extra': 1}


def test_pseudo_labels_of_labelled_images_are_refused(root):
    split = draw_split(names(), 0.25)
    write_annotations(root / 'pseudo.json', split.unlabeled, split.unlabeled)
    sources = {'labeled': coco(root), 'unlabeled': coco(root, 'pseudo.json')}
    assert SourceDataset(sources, {'fraction': 0.25}).sizes == {'labeled': 3, 'unlabeled': 9}
    write_annotations(root / 'pseudo.json', names()[2:], names())
    shared = len(set(split.labeled) & set(names()[2:]))
    with pytest.raises(DataError, match=rf"labeled and source 'unlabeled' share {shared} of 10"):
        SourceDataset(sources, {'fraction': 0.25})


def test_bad_sources_are_refused(root):
    with pytest.raises(ConfigError, match='sources is empty'):
        SourceDataset({})
    with pytest.raises(ConfigError, match="needs a source named 'labeled'"):
        SourceDataset({'unlabeled': folder(root)}, {'count': 1})
    with pytest.raises(ConfigError, match="source 'labeled' is a ConcatDataset"):
        SourceDataset({'labeled': ConcatDataset([folder(root)])})
    with pytest.raises(ConfigError, match='ann_file has no use'):
        SourceDataset({'unlabeled': folder(root, ann_file='train.json')})


def test_unreadable_sources_are_named(root):
    with pytest.raises(DataError, match=r"source 'labeled': '.*absent.json' cannot be read"):
        build(root, ann_file='absent.json')
    (root / 'train.json').write_text('{"images": [')
    with pytest.raises(DataError, match=r"source 'labeled': '.*train.json' cannot be read"):
        build(root)
    with pytest.raises(DataError, match=r"'.*absent' does not exist"):
        SourceDataset({'unlabeled': folder(root, data_prefix={'img': 'absent'})})


def test_labels_without_objects_are_refused(root):
    pool = draw_split(names(), 0.25).unlabeled
    write_annotations(root / 'train.json', names(), pool)
    with pytest.raises(DataError, match='none of its 3 images has an object'):
        build(root, filter_cfg=None)
    with pytest.raises(DataError, match='none of its 3 labeled images is left by filter_cfg'):
        build(root)
    write_annotations(root / 'train.json', names(), [])
    with pytest.raises(DataError, match='none of its 12 images is left by filter_cfg'):
        build(root)


@pytest.mark.parametrize('serialize', [True, False])
def test_an_empty_pool_is_refused_by_batches_that_take_from_it(root, serialize):
    pool = folder(root, serialize_data=serialize)
    dataset = SourceDataset({'labeled': coco(root), 'unlabeled': pool}, {'fraction': 1.0})
    assert dataset.sizes == {'labeled': 12, 'unlabeled': 0}
    sampler = RatioBatchSampler({'labeled': 2, 'unlabeled': 0}, dataset=dataset)
    assert {draw.source for draw in sampler.batch(0)} == {'labeled'}
    assert sampler.describe() == 'per step 2 labeled; one pass over the labeled = 6 steps'
    text = r"source 'unlabeled' has no image left, .* counts.unlabeled is 3; .* counts.unlabeled=0"
    with pytest.raises(DataError, match=text):
        RatioBatchSampler({'labeled': 2, 'unlabeled': 3}, dataset=dataset)


def test_images_of_another_collection_stay_though_their_names_are_equal(root, monkeypatch):
    lines = []
    monkeypatch.setattr('castkd.datasets.source.print_log', lambda line, *_: lines.append(line))
    labeled = draw_split(names(), count=5).labeled
    shutil.copytree(root / 'images', root / 'extra')
    for name in labeled[:2]:
        shutil.copy(root / 'images' / labeled[4], root / 'extra' / name)
    extra = folder(root, data_prefix={'img': 'extra'})
    sources = {'labeled': coco(root), 'unlabeled': folder(root), 'extra': extra}
    dataset = SourceDataset(sources, {'count': 5})
    assert dataset.sizes == {'labeled': 5, 'unlabeled': 7, 'extra': 9}
    assert set(labeled[:2]) < set(image_names(dataset.datasets['extra']))
    assert lines == [
        "source 'extra': 2 images have the name of a labeled one but another content; they stay"
    ]


def test_ratio_is_said_in_words(root):
    dataset = build(root)
    text = dataset.describe({'labeled': 2, 'unlabeled': 4})
    assert text == 'per step 2 labeled + 4 unlabeled; one pass over the unlabeled = 3 steps'
    text = dataset.describe({'labeled': 1, 'unlabeled': 0}, world_size=2)
    assert text == 'per step 1 labeled on each of 2 processes; one pass over the labeled = 2 steps'


class Picky(BaseDataset):
    """Numbers, of which a pipeline turns down those below a limit or fails on one."""

    def __init__(self, limit=0, broken=None):
        self.limit, self.broken = limit, broken
        super().__init__(pipeline=[self.choose], serialize_data=False)

    def load_data_list(self):
        return [{'img_path': f'{i}.png'} for i in range(30)]

    def choose(self, info):
        index = info['sample_idx']
        if index == self.broken:
            # OpenCV's errors have several lines.
            raise IndexError('mask\n is 5 x 5\n')
        return None if index < self.limit else (index, np.random.rand())


def test_next_image_stands_in_for_one_that_is_turned_down():
    dataset = SourceDataset({'labeled': Picky(limit=10)})
    item = dataset[Draw('labeled', 4, 0)]
    assert item[0] == 10
    assert dataset[Draw('labeled', 4, 0)] == item
    assert SourceDataset({'labeled': Picky(limit=29)})[Draw('labeled', 29, 0)][0] == 29
    with pytest.raises(DataError, match=r"nothing for image '.*2.png' and the 19 after it"):
        SourceDataset({'labeled': Picky(limit=29)})[Draw('labeled', 2, 0)]


def test_image_that_breaks_the_pipeline_is_named():
    dataset = SourceDataset({'labeled': Picky(broken=3)})
    with pytest.raises(
        DataError, match=r"^source 'labeled': image '3.png' .*IndexError: mask is 5 x 5\); check"
    ):
        dataset[Draw('labeled', 3, 0)]


def test_plain_indices_are_refused(root):
    with pytest.raises(ConfigError, match='batch_sampler of the dataloader'):
        build(root)[0]


def test_folder_is_sorted_and_has_empty_annotations(root):
    dataset = SourceDataset({'unlabeled': folder(root, suffixes=['.PNG'])}).datasets['unlabeled']
    assert image_names(dataset) == sorted(names())
    assert dataset.get_data_info(0)['instances'] == []
    assert [dataset.get_data_info(i)['img_id'] for i in range(3)] == [0, 1, 2]


def test_views_that_nobody_reads_are_not_made(root):
    *shared, strong, pack = POOL_PIPELINE
    views = {
        'type': 'mmdet.MultiBranch',
        'branch_field': ['sup', 'weak', 'strong'],
        'weak': [pack],
        'strong': [strong, pack],
    }

    def make():
        pool = folder(root, pipeline=[*shared, views])
        return SourceDataset({'unlabeled': pool, 'plain': folder(root)})

    whole, pruned = make(), make()
    assert pruned.keep_views(['weak', 'absent']) == ['strong']
    draw = Draw('unlabeled', 3, 11)
    assert whole[draw]['inputs']['strong'] is not None
    assert pruned[draw]['inputs']['strong'] is None
    assert torch.equal(whole[draw]['inputs']['weak'], pruned[draw]['inputs']['weak'])
    assert summary(whole[Draw('plain', 2, 5)]) == summary(pruned[Draw('plain', 2, 5)])
    # A pipeline without any view that is read gives what it gave: its images are drawn still.
    assert pruned.keep_views(['sup']) == []
    assert pruned[draw]['inputs']['weak'] is not None


def test_views_before_one_that_is_read_stay_for_its_random_numbers(root):
    *shared, strong, pack = POOL_PIPELINE
    views = {'type': 'mmdet.MultiBranch', 'branch_field': ['one', 'two', 'three']}
    views |= {key: [strong, pack] for key in views['branch_field']}

    def make():
        return SourceDataset({'unlabeled': folder(root, pipeline=[*shared, views])})

    whole, pruned = make(), make()
    assert pruned.keep_views(['two']) == ['three']
    draw = Draw('unlabeled', 3, 11)
    assert torch.equal(whole[draw]['inputs']['two'], pruned[draw]['inputs']['two'])
