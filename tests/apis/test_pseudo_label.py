import json
import shutil
import sys

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from castkd.apis.predictor import Predictor
from castkd.apis.pseudo_label import choose_images, find_images, generate_pseudo_labels
from castkd.checkpoints import sha256
from castkd.datasets.pseudo_store import decode_masks, read_pseudo_labels
from castkd.datasets.splits import Split, write_split
from castkd.errors import ConfigError, DataError
from tests.apis.tiny_project import CLASSES, SIZES

NAMES = ['0.png', '1.png', '2.png', '3.png', 'more/4.png']


def label(project, out, **options):
    options = {'score_thr': 0.2, 'batch_size': 2, 'device': 'cpu', **options}
    return generate_pseudo_labels(
        project.distiller_config, project.distiller_checkpoint, project.images, out, **options
    )


@pytest.fixture
def predicted(monkeypatch):
    """Let the model predict given instances: a function that takes masks, scores, labels and mask scores."""

    def give(masks, scores, labels, mask_scores=None):
        def predict(_, items):
            samples = [item['data_samples'] for item in items]
            for sample in samples:
                canvas = torch.zeros(len(masks), *sample.ori_shape, dtype=torch.bool)
                for mask, (start, end) in zip(canvas, masks, strict=True):
                    mask[0, start:end] = True
                found = InstanceData(
                    masks=canvas, scores=torch.tensor(scores), labels=torch.tensor(labels)
                )
                if mask_scores is not None:
                    found.mask_scores = torch.tensor(mask_scores)
                sample.pred_instances = found
            return samples

        monkeypatch.setattr(Predictor, '_predict', predict)

    return give


def test_file_holds_what_the_model_predicts(project, tmp_path):
    summary = label(project, tmp_path / 'labels.json')
    labels = read_pseudo_labels(tmp_path / 'labels.json')
    assert labels.classes == CLASSES
    assert [image['file_name'] for image in labels.images] == NAMES
    assert [(image['height'], image['width']) for image in labels.images] == list(SIZES)
    info = labels.info
    assert info['checkpoint_sha256'] == sha256(project.distiller_checkpoint)
    assert info['checkpoint'] == str(project.distiller_checkpoint)
    assert info['config'] == str(project.distiller_config)
    assert info['options']['score_thr'] == 0.2
    assert info['num_images'] == 5
    counts = [len(image['annotations']) for image in labels.images]
    assert info['num_instances'] == sum(counts) == sum(info['num_instances_per_class'].values()) > 5
    assert all(item['score'] > 0.2 for image in labels.images for item in image['annotations'])
    assert summary['num_instances'] == sum(counts)
    assert summary['num_excluded'] == 0
    assert 'quality' not in summary
    for image in labels.images:
        masks = decode_masks(image)
        assert masks.sum(0).max() == 1
        assert masks.any((1, 2)).all()
    assert not (tmp_path / 'labels.json.partial.jsonl').exists()


def test_filtering(project, tmp_path, predicted):
    predicted([(3, 6), (0, 4), (8, 9)], [0.5, 0.9, 0.1], [1, 0, 0], [0.6, 0.7, 0.8])
    label(project, tmp_path / 'labels.json', score_thr=0.3)
    image = read_pseudo_labels(tmp_path / 'labels.json').images[0]
    assert [item['category_id'] for item in image['annotations']] == [1, 2]
    assert np.flatnonzero(decode_masks(image)[0, 0]).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(decode_masks(image)[1, 0]).tolist() == [4, 5]
    scores = [item[key] for item in image['annotations'] for key in ('score', 'mask_score')]
    assert scores == pytest.approx([0.9, 0.7, 0.5, 0.6])


def test_scores_stand_in_for_mask_scores(project, tmp_path, predicted, monkeypatch):
    predicted([(0, 4)], [0.9], [0])
    label(project, tmp_path / 'labels.json')
    record = read_pseudo_labels(tmp_path / 'labels.json').images[0]['annotations'][0]
    assert record['mask_score'] == record['score']
    lines = []
    monkeypatch.setattr(
        sys.modules['castkd.apis.pseudo_label'], 'print_log', lambda line, *_: lines.append(line)
    )
    label(project, tmp_path / 'labels.json', mask_score_thr=0.95)
    assert len(lines) == 1
    assert 'not one of 5 images got a pseudo-label' in lines[0]
    assert read_pseudo_labels(tmp_path / 'labels.json').info['num_instances'] == 0


def test_image_without_detections_stays(project, tmp_path, predicted):
    predicted([(0, 4)], [0.1], [0])
    summary = label(project, tmp_path / 'labels.json')
    labels = read_pseudo_labels(tmp_path / 'labels.json')
    assert [len(image['annotations']) for image in labels.images] == [0] * 5
    assert [(image['height'], image['width']) for image in labels.images] == list(SIZES)
    assert summary['num_images_without_instances'] == 5


def test_same_labels_with_and_without_reference(project, tmp_path):
    label(project, tmp_path / 'without.json')
    summary = label(project, tmp_path / 'with.json', reference=project.annotations)
    quality = json.loads((tmp_path / 'with.quality.json').read_text())
    assert quality == summary['quality']
    assert not (tmp_path / 'without.quality.json').exists()
    assert (tmp_path / 'with.json').read_bytes() == (tmp_path / 'without.json').read_bytes()
    assert summary['quality']['instances'] == 10
    assert summary['quality']['predictions'] == summary['num_instances']
    # Made again without a reference, the file of the first time would be taken for theirs.
    label(project, tmp_path / 'with.json')
    assert not (tmp_path / 'with.quality.json').exists()


def test_quality_of_perfect_labels(project, tmp_path, predicted):
    truth = json.loads(project.annotations.read_text())

    def perfect(_, items):
        samples = [item['data_samples'] for item in items]
        for sample in samples:
            masks = torch.zeros(2, *sample.ori_shape, dtype=torch.bool)
            masks[0, 4:20, 4:24] = True
            masks[1, 24:36, 10:30] = True
            scores, labels = torch.tensor([0.9, 0.6]), torch.tensor([0, 1])
            sample.pred_instances = InstanceData(masks=masks, scores=scores, labels=labels)
        return samples

    predicted([], [], [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, '_predict', perfect)
        summary = label(project, tmp_path / 'labels.json', reference=project.annotations)
    quality = summary['quality']
    assert quality['instances'] == len(truth['annotations'])
    assert (quality['precision'], quality['recall']) == (1.0, 1.0)
    by_score = {row['above']: row['recall'] for row in quality['by_score']}
    assert (by_score[0.5], by_score[0.8]) == (1.0, 0.5)


class Killed(BaseException):
    """Stands for a kill: nothing in the package may catch it."""


def interrupted(project, out, after, **options):
    """Run until ``after`` batches are predicted, then die."""
    whole = Predictor._predict
    count = 0

    def predict(self, items):
        nonlocal count
        count += 1
        if count > after:
            raise Killed
        return whole(self, items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, '_predict', predict)
        with pytest.raises(Killed):
            label(project, out, **options)


@pytest.mark.parametrize('after', [0, 1, 2])
@pytest.mark.parametrize('half_line', [b'', b'[{"file_name": "2.p'])
def test_killed_run_goes_on_to_the_identical_file(project, tmp_path, monkeypatch, after, half_line):
    out, partial = tmp_path / 'labels.json', tmp_path / 'labels.json.partial.jsonl'
    label(project, out)
    whole = out.read_bytes()
    out.unlink()
    interrupted(project, out, after)
    assert not out.exists()
    with open(partial, 'ab') as file:
        file.write(half_line)
    sizes = []
    predict = Predictor._predict
    monkeypatch.setattr(
        Predictor, '_predict', lambda self, items: sizes.append(len(items)) or predict(self, items)
    )
    label(project, out)
    assert out.read_bytes() == whole
    assert sizes == [2, 2, 1][after:]
    assert not partial.exists()


def test_finished_journal_needs_no_model_run(project, tmp_path, monkeypatch):
    # Killed between the last batch and the file.
    def fail(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr('castkd.apis.instance_labels.coco_content', fail)
        with pytest.raises(Killed):
            label(project, tmp_path / 'labels.json')
    monkeypatch.setattr(Predictor, '_predict', fail)
    assert label(project, tmp_path / 'labels.json')['num_images'] == 5


@pytest.mark.parametrize(
    ('options', 'what'),
    [({'score_thr': 0.25}, 'options'), ({'batch_size': 3}, 'batch_size')],
)
def test_other_options_than_the_killed_run(project, tmp_path, options, what):
    out = tmp_path / 'labels.json'
    interrupted(project, out, 1)
    with pytest.raises(DataError, match=f'begun with another {what}; .*without resuming'):
        label(project, out, **options)
    assert label(project, out, resume=False, **options)['num_images'] == 5


def test_other_checkpoint_than_the_killed_run(project, tmp_path):
    interrupted(project, tmp_path / 'labels.json', 1)
    with pytest.raises(DataError, match='begun with another checkpoint_sha256'):
        generate_pseudo_labels(
            project.distiller_config,
            project.checkpoint,
            project.images,
            tmp_path / 'labels.json',
            score_thr=0.2,
            batch_size=2,
            device='cpu',
        )


def test_damaged_journal(project, tmp_path):
    (tmp_path / 'labels.json.partial.jsonl').write_text('{"format_ver\nrest\n')
    with pytest.raises(DataError, match=r'partial\.jsonl.* is damaged .*delete it'):
        label(project, tmp_path / 'labels.json')


def test_broken_image_names_it_and_leaves_no_file(project, tmp_path):
    images = tmp_path / 'images'
    shutil.copytree(project.images, images)
    content = (images / '2.png').read_bytes()
    (images / '2.png').write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r'2\.png.*truncated'):
        generate_pseudo_labels(
            project.config, project.checkpoint, images, tmp_path / 'labels.json', device='cpu'
        )
    assert not (tmp_path / 'labels.json').exists()


def test_unwritable_folder(project, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match=r'cannot write .*file/labels\.json'):
        label(project, tmp_path / 'file' / 'labels.json')


def test_exclude_split_and_list(project, tmp_path):
    write_split(Split(('0.png', 'more/4.png'), ('1.png',), 0.5, 0), tmp_path / 'split.json')
    summary = label(project, tmp_path / 'labels.json', exclude=tmp_path / 'split.json')
    names = [image['file_name'] for image in read_pseudo_labels(tmp_path / 'labels.json').images]
    assert names == ['1.png', '2.png', '3.png']
    assert summary['num_excluded'] == 2
    (tmp_path / 'list.txt').write_text('train/1\n\n2.png\n')
    assert choose_images(NAMES, tmp_path / 'list.txt') == ['0.png', '3.png', 'more/4.png']


def test_include_takes_the_pool_of_a_split(project, tmp_path):
    write_split(Split(('0.png',), ('1.png', 'more/4.png'), 0.5, 0), tmp_path / 'split.json')
    summary = label(project, tmp_path / 'labels.json', include=tmp_path / 'split.json')
    names = [image['file_name'] for image in read_pseudo_labels(tmp_path / 'labels.json').images]
    assert names == ['1.png', 'more/4.png']
    assert summary['num_excluded'] == len(NAMES) - 2
    (tmp_path / 'list.txt').write_text('7.png')
    with pytest.raises(DataError, match='lists none of the 5 images'):
        choose_images(NAMES, include=tmp_path / 'list.txt')
    with pytest.raises(ConfigError, match='not both'):
        choose_images(NAMES, tmp_path / 'list.txt', tmp_path / 'list.txt')


@pytest.mark.parametrize(
    ('line', 'left'),
    [
        ('a/1.png', ['a/2.png', 'b/1.png']),
        ('a/1.jpg', ['a/2.png', 'b/1.png']),
        ('root/a/1.png', ['a/2.png', 'b/1.png']),
        ('1.png', ['a/2.png']),
        ('a', ['a/1.png', 'a/2.png', 'b/1.png']),
        ('x1.png', ['a/1.png', 'a/2.png', 'b/1.png']),
    ],
)
def test_what_a_listed_name_fits(tmp_path, line, left):
    (tmp_path / 'list.txt').write_text(line)
    assert choose_images(['a/1.png', 'a/2.png', 'b/1.png'], tmp_path / 'list.txt') == left


def test_bad_exclude(tmp_path):
    with pytest.raises(DataError, match=r'exclude: file .* does not exist'):
        choose_images(NAMES, tmp_path / 'none.txt')
    (tmp_path / 'all.txt').write_text('\n'.join(NAMES))
    with pytest.raises(DataError, match='lists all 5 images'):
        choose_images(NAMES, tmp_path / 'all.txt')


def test_list_of_images(project):
    files = [project.images / 'more' / '4.png', project.images / '1.png']
    assert find_images(files) == (project.images, ['1.png', 'more/4.png'])
    with pytest.raises(DataError, match='occur more than once'):
        find_images([files[0], files[0]])
    with pytest.raises(DataError, match='the list is empty'):
        find_images([])
    with pytest.raises(DataError, match='does not exist'):
        find_images([project.images / 'none.png'])


def test_bad_input(project, tmp_path):
    out = tmp_path / 'labels.json'
    with pytest.raises(ConfigError, match='score_thr'):
        label(project, out, score_thr=2)
    with pytest.raises(ConfigError, match='batch_size'):
        label(project, out, batch_size=0)
    with pytest.raises(DataError, match='does not exist'):
        label(project, out, reference=tmp_path / 'none.json')
    with pytest.raises(DataError, match='does not exist'):
        generate_pseudo_labels(project.config, project.checkpoint, tmp_path / 'none', out)
    options = {'model.student.test_cfg.instance_on': False}
    with pytest.raises(ConfigError, match='predicts no instance masks'):
        label(project, out, cfg_options=options)
    assert not out.exists()


def test_more_predicted_than_named_classes(project, tmp_path, predicted):
    predicted([(0, 4)], [0.9], [2])
    with pytest.raises(ConfigError, match='predicts class 2 but only 2 classes are named'):
        label(project, tmp_path / 'labels.json')
