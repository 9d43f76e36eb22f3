"""Bad input as a catalogue: each ends in one line that says what, where and what to do, and in status 2.

``COMMAND`` lists what this module does to a project before it calls ``tools/train.py``; ``ELSEWHERE`` names the
tests of the rest, which lie beside what they test.
"""

import ast
import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as coco_mask

from castkd import files
from castkd.checkpoints import load_checkpoint
from tests.datasets.small_coco import names, write_annotations
from tests.distillation_project import FIRST, LABELED, Project
from tests.hooks.toy import SquareFinder
from tests.semantic_fixtures import make_camvid
from tools import train

ROOT = Path(__file__).parents[1]

ELSEWHERE = {
    # images
    'a truncated JPEG or PNG': 'datasets/test_loading.py::test_truncated_file_is_refused',
    'a truncated image while labelling': 'apis/test_pseudo_label.py::test_broken_image_names_it_and_leaves_no_file',
    'a grey image is read': 'datasets/test_loading.py::test_grey_becomes_three_channels',
    'an image with alpha is read': 'datasets/test_loading.py::test_alpha_is_dropped',
    'an image of 16 bits': 'datasets/test_loading.py::test_16_bits_are_refused',
    'an unlabelled image without detections is kept': 'apis/test_pseudo_label.py::test_image_without_detections_stays',
    'a batch without any label is trained on': 'distiller/test_distiller.py::test_no_label_at_all_keeps_the_graph',
    'another collection with the same names': 'datasets/test_source.py::test_images_of_another_collection_stay_'
    'though_their_names_are_equal',
    # annotations and sets
    'other faults of masks, boxes and categories': 'datasets/test_annotations.py::test_wrong_annotations_are_refused',
    'classes in another order than the file': 'datasets/test_annotations.py::test_classes_must_be_the_categories_'
    'of_the_file',
    'labels without any object': 'datasets/test_source.py::test_labels_without_objects_are_refused',
    'labelled images in the pool': 'engine/test_data_check.py::test_labelled_images_in_the_pool_are_counted',
    'labelled images with pseudo-labels': 'datasets/test_source.py::test_pseudo_labels_of_labelled_images_are_refused',
    'validation images with training labels': 'engine/test_data_check.py::test_validation_images_with_training_'
    'labels_are_counted',
    'a pool that the split left empty': 'datasets/test_source.py::test_an_empty_pool_is_refused_by_batches_that_'
    'take_from_it',
    # label maps
    'label maps that cannot be right, in a training': 'test_bad_label_maps.py::test_training_refuses',
    'a palette where an index map is expected': 'datasets/test_index_maps.py::test_palette_indices_are_taken_only_'
    'when_asked',
    'colours where an index map is expected': 'datasets/test_index_maps.py::test_other_kinds_of_pixels_are_refused',
    'a label map of another size': 'datasets/test_index_maps.py::test_another_size_than_the_image_is_refused',
    'indices outside the classes': 'datasets/test_index_maps.py::test_indices_outside_the_classes_are_refused',
    'missing label maps': 'datasets/test_semantic_loaders.py::test_the_labels_of_the_pool_are_no_precondition',
    'an empty unlabelled folder': 'datasets/test_semantic_loaders.py::test_an_empty_folder_is_told',
    'a fully ignored crop is trained on': 'test_semantic_adapter.py::test_loss_over_no_image_is_a_connected_zero',
    'a segmentor with another number of outputs': 'engine/test_data_check.py::test_a_segmentor_has_an_output_per_class',
    # models
    'a class mapping with gaps': 'teachers/test_teachers.py::test_classes_must_match_or_be_mapped',
    'weights of another model in load_from': 'hooks/test_first_weights.py::test_another_model_is_refused_before_the_'
    'first_step',
    'code in a checkpoint that mmengine reads': 'test_checkpoints.py::test_guard_makes_mmengine_refuse',
    'weights that are not finite': 'hooks/test_nonfinite.py::test_spoilt_weights_stop_before_the_checkpoint',
    # detectors that are distilled
    'nothing that teacher and student disagree on': 'objectives/test_gid_input.py::test_nothing_selected_is_a_'
    'connected_zero',
    'scores that are not finite': 'objectives/test_gid_input.py::test_slots_that_are_not_finite_are_skipped',
    'an image smaller than a pooling window': 'objectives/test_gid_input.py::test_image_smaller_than_a_cell_of_the_'
    'coarsest_level',
    'other anchors, strides or classes': 'objectives/test_gid_input.py::test_networks_that_do_not_fit_are_refused_when_'
    'built',
    'a teacher of another normalisation': 'objectives/test_gid_input.py::test_teacher_of_another_normalisation_sees_'
    'its_own_images',
    'a head whose predictions cannot be read': 'objectives/test_gid_input.py::test_network_without_slots_is_refused_'
    'with_the_heads_that_have_them',
    # disk
    'a work directory that cannot be made': 'apis/test_train.py::test_a_work_dir_that_cannot_be_made_is_one_line',
    'a disk that fills up in a log': 'apis/test_train.py::test_a_disk_that_fills_up_while_training_is_one_line',
    'no place for pseudo-labels': 'apis/test_pseudo_label.py::test_unwritable_folder',
    'no place for an exported student': 'apis/test_export_student.py::test_unwritable_folder',
    # configs and recipes
    'an unknown stage': 'apis/test_train.py::test_the_tool_ends_with_one_line_and_status_2',
    'a misspelt key': 'engine/test_config_check.py::test_a_misspelt_key_is_named_with_a_suggestion',
    'a module that cannot be imported': 'engine/test_config_check.py::test_a_module_that_cannot_be_imported_is_told_'
    'with_the_reason',
    'a finished stage of another config': 'engine/test_recipe_runner.py::test_a_finished_stage_with_another_config_is_'
    'refused_by_key',
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    # Asking the machine for its compilers takes a second.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    return Project(tmp_path)


def option(text):
    return lambda project: project.options.append(text.replace('ROOT', str(project.root)))


def run_lengths(height, width, ones):
    mask = np.zeros((height, width), np.uint8, order='F')
    mask[:ones] = 1
    code = coco_mask.encode(mask)
    return {'size': code['size'], 'counts': code['counts'].decode()}


def annotation(file='train.json', **values):
    return lambda project: project.edit(file, **values)


def cut(project):
    content = (project.root / 'teacher.pth').read_bytes()
    (project.root / 'teacher.pth').write_bytes(content[: len(content) // 2])


class Bomb:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return print, ('boom',)


def other_model(project):
    torch.save({'state_dict': torch.nn.Linear(2, 2).state_dict()}, project.root / 'teacher.pth')


def other_classes(project):
    project.save_network('teacher.pth', meta={'dataset_meta': {'classes': ('cat', 'dog')}})


def plain_data(project):
    config = project.config()
    labeled = config['train_dataloader']['dataset']['sources']['labeled']
    sampler = {'type': 'InfiniteSampler'}
    config['train_dataloader'] = {'batch_size': 1, 'dataset': labeled, 'sampler': sampler}
    config['train_cfg'] = {'by_epoch': False, 'max_iters': 1}
    Config(config).dump(project.root / 'stage.py')
    content = (project.root / 'train.json').read_text()
    (project.root / 'train.json').write_text(content[:100])


def overlap(project):
    option('val_dataloader.dataset.data_prefix.img=images')(project)
    write_annotations(project.root / 'val.json', names()[:7], names())


SPLIT = 'train_dataloader.dataset.split.fraction='
LABELS = 'train_dataloader.dataset.sources.labeled.'
POOL = 'train_dataloader.dataset.sources.unlabeled.'

# What is wrong -> (how to make it so, what the line says).
COMMAND = {
    'no data root': (
        option(f'{LABELS}data_root=ROOT/none'),
        r"source 'labeled': '.*none/train\.json' cannot be read \(No such file .*\); check data_root and ann_file",
    ),
    'no image folder': (
        option(f'{POOL}data_root=ROOT/none'),
        r"'.*none/images' does not exist; check the path",
    ),
    'no annotation file': (
        option(f'{LABELS}ann_file=trian.json'),
        r"source 'labeled': '.*/trian\.json' cannot be read",
    ),
    'half an annotation file of plain data': (
        plain_data,
        r"train_dataloader\.dataset: '.*train\.json' cannot be read \(JSONDecodeError: .*\); check data_root and ann",
    ),
    'no annotation file for validation': (
        option('val_dataloader.dataset.ann_file=vla.json'),
        r"val_dataloader\.dataset: '.*/vla\.json' cannot be read",
    ),
    'no image': (
        lambda project: (project.root / 'images' / FIRST).unlink(),
        rf"source 'labeled': 1 of 6 images do not exist, for example '.*images/{FIRST}'; check data_root, data_prefix",
    ),
    'none of the images': (
        lambda project: [(project.root / 'images' / name).unlink() for name in LABELED],
        r"source 'labeled': 6 of 6 images do not exist, for example '.*png'; check data_root, data_prefix",
    ),
    'no image for validation': (
        lambda project: (project.root / 'val' / '1.png').unlink(),
        r"val_dataloader\.dataset: 1 of 2 images do not exist, for example '.*val/1\.png'; check",
    ),
    'a broken image, seen by a process that loads data': (
        lambda project: [
            option('train_dataloader.num_workers=1')(project),
            *((project.root / 'images' / name).write_bytes(b'GIF') for name in LABELED),
        ],
        r"error: image '.*images/city.*png' is no image that OpenCV can read \(3 bytes\); fetch it again",
    ),
    'an unknown category': (
        annotation(category_id=9),
        rf"'.*train\.json': annotation \d+ of image '{FIRST}' has category_id 9, .* mend it or take it out",
    ),
    'an unknown category in validation': (
        annotation('val.json', category_id=9),
        r"val_dataloader\.dataset: '.*val\.json': annotation 0 of image '0\.png' has category_id 9",
    ),
    'a mask of the wrong size': (
        annotation(segmentation=run_lengths(32, 24, 5)),
        rf"'{FIRST}' has a mask of \[32, 24\] \(height, width\), its image has \[24, 32\]",
    ),
    'an empty mask': (
        annotation(segmentation=run_lengths(24, 32, 0)),
        rf"'{FIRST}' has an empty mask; mend it or take it out of the file",
    ),
    'a box outside the image': (
        annotation(bbox=[40, 4, 10, 10]),
        rf"'{FIRST}' has a box outside its image of 32 x 24: \[40, 4, 10, 10\]",
    ),
    'validation images in the pool': (
        overlap,
        r"source '(un)?labeled' and val_dataloader share \d of 7 images, for example '.*png'; take them out",
    ),
    'a fraction of 0': (option(f'{SPLIT}0'), r'fraction must be a number in \(0, 1\], got 0'),
    'a fraction above 1': (
        option(f'{SPLIT}1.5'),
        r'fraction must be a number in \(0, 1\], got 1\.5',
    ),
    'a teacher with other classes': (
        other_classes,
        r"teacher 'big' predicts classes \('cat', 'dog'\) but the student learns \('thing',\); declare class_mapping",
    ),
    'a checkpoint of another model': (
        other_model,
        r"teacher\.pth' is a checkpoint of another model: 6 missing keys \(conv\.weight, .*2 unexpected keys",
    ),
    'a truncated checkpoint': (
        cut,
        r"teacher\.pth' is truncated, damaged or no checkpoint .*; copy",
    ),
    'a checkpoint with code': (
        lambda project: project.save_network('teacher.pth', meta=Bomb()),
        r"teacher\.pth' would run code from the file when loaded \(.*print\) and is refused; save it again",
    ),
    'weights of a plain model in load_from': (
        option('load_from=ROOT/teacher.pth'),
        r"load_from: '.*teacher\.pth' is a checkpoint of another model: 6 missing .* \(model\.student_checkpoint takes",
    ),
    'no checkpoint': (
        lambda project: (project.root / 'teacher.pth').unlink(),
        r"teacher\.pth' does not exist; check the path",
    ),
    'a tap that does not exist': (
        lambda project: [
            option('model.pseudo_labeler.type=castkd.QueryPseudoLabeler')(project),
            option('model.pseudo_labeler.head=cnov')(project),
        ],
        r"tap 'cnov\[0\]\[-1\]': SquareFinder has no module 'cnov'; did you mean 'conv' or 'norm'\?",
    ),
    'a misspelt key': (
        option('model.objectives.sup.veiw=sup'),
        r"stage\.py: model\.objectives\.sup\.veiw: Supervised has no such key; did you mean 'view'\?",
    ),
}


def the_line(capsys):
    """Return the one line of an error; everything else that is printed is progress."""
    shown = capsys.readouterr().err
    assert 'Traceback' not in shown
    (line,) = [text for text in shown.splitlines() if text.startswith('error: ')]
    return line


def left_behind(folder):
    """Return files that are half-written or pretend to be a result."""
    kinds = ('*.pth', '.*partial', 'results.json', 'report.html', 'metrics.json', 'split.json')
    return [path for kind in kinds for path in folder.rglob(kind)]


@pytest.mark.parametrize('wrong', COMMAND)
def test_training_refuses(project, capsys, wrong):
    change, words = COMMAND[wrong]
    change(project)
    assert project.train() == 2
    line = the_line(capsys)
    assert re.search(words, line), line
    assert left_behind(project.work_dir) == []


def test_the_project_itself_trains(project):
    """Otherwise a refusal would mean nothing."""
    assert project.train() == 0
    assert (project.work_dir / 'results.json').is_file()


def checkpoints(project):
    """Return the names of the checkpoints; all can be read and hold finite weights."""
    paths = sorted(project.work_dir.glob('iter_*.pth'))
    for path in paths:
        state = load_checkpoint(path)['state_dict']
        assert all(
            torch.isfinite(value).all() for value in state.values() if value.dtype.is_floating_point
        )
    return [path.name for path in paths]


def test_nan_in_a_loss_stops_and_keeps_the_last_good_checkpoint(project, capsys, monkeypatch):
    loss, calls = SquareFinder.loss, []

    def spoilt_in_the_last_step(self, inputs, samples):
        calls.append(len(samples))
        losses = loss(self, inputs, samples)
        # Each step runs the student on labelled and on unlabelled images.
        return (
            {**losses, 'loss_cls': losses['loss_cls'] * float('nan')} if len(calls) > 4 else losses
        )

    monkeypatch.setattr(SquareFinder, 'loss', spoilt_in_the_last_step)
    assert project.train() == 2
    words = r'error: loss is not finite at step 2: .*sup\.loss_cls=nan, unsup\.loss_cls=nan\. .* checkpoint is good'
    assert re.match(words, the_line(capsys))
    assert checkpoints(project) == ['iter_1.pth', 'iter_2.pth']
    monkeypatch.undo()
    assert project.train('--resume') == 0
    assert checkpoints(project)[-1] == 'iter_3.pth'


def test_a_full_disk_leaves_no_half_checkpoint_and_the_run_goes_on_later(
    project, capsys, monkeypatch
):
    def full(path, data):
        write(path, data[: len(data) // 2])
        if 'iter_2' in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, data)

    write = files._write_through
    monkeypatch.setattr(files, '_write_through', full)
    assert project.train() == 2
    words = r"error: iter_2\.pth: cannot be written to '.*work' \(No space left on device\); free space there"
    assert re.match(words, the_line(capsys))
    assert [path.name for path in left_behind(project.work_dir)] == ['iter_1.pth']
    assert checkpoints(project) == ['iter_1.pth']
    monkeypatch.undo()
    assert project.train('--resume') == 0
    assert checkpoints(project)[-1] == 'iter_3.pth'


def test_an_empty_pool_of_a_segmentor_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_camvid(tmp_path / 'data/camvid')
    (tmp_path / 'data/camvid/images/none').mkdir()
    config = ROOT / 'configs' / 'mgd' / 'camvid' / 'cps.py'
    empty = 'train_dataloader.dataset.sources.unlabeled.data_prefix.img=images/none'
    command = [str(config), '--work-dir', 'work', '--cfg-options', empty]
    assert train.main(command) == 2
    words = r"error: images: folder '.*images/none' holds no image \(\.png, .*\); check the path"
    assert re.search(words, the_line(capsys))
    assert left_behind(Path('work')) == []


@pytest.mark.parametrize('wrong', ELSEWHERE)
def test_the_rest_is_tested_elsewhere(wrong):
    path, _, name = ELSEWHERE[wrong].partition('::')
    tree = ast.parse((ROOT / 'tests' / path).read_text(encoding='utf-8'))
    tests = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert tests.count(name) == 1
