import copy

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.registry import MODELS

from castkd.apis.predictor import load_predictor
from castkd.apis.student import student_config
from castkd.errors import CheckpointError, ConfigError, DataError
from tests.apis.tiny_project import CLASSES, SIZES
from tests.builders import tiny_segmentor


def paths(project):
    return sorted(project.images.rglob('*.png'))


def same(first, second):
    first, second = first.pred_instances, second.pred_instances
    return all(
        torch.equal(first[key], second[key]) for key in ('masks', 'scores', 'labels', 'bboxes')
    )


def test_distiller_and_plain_model_predict_the_same(project):
    plain = load_predictor(project.config, project.checkpoint)
    distilled = load_predictor(project.distiller_config, project.distiller_checkpoint)
    assert plain.classes == distilled.classes == CLASSES
    assert type(distilled.model).__name__ == 'Mask2Former'
    assert not distilled.model.training
    assert isinstance(distilled.config, Config)
    for first, second in zip(
        plain.predict_paths(paths(project)), distilled.predict_paths(paths(project)), strict=True
    ):
        assert same(first, second)


def test_a_config_fits_the_checkpoint_of_its_counterpart(project):
    crossed = load_predictor(project.config, project.distiller_checkpoint)
    plain = load_predictor(project.config, project.checkpoint)
    assert same(
        crossed.predict_paths(paths(project)[:1])[0], plain.predict_paths(paths(project)[:1])[0]
    )


def test_results_are_in_pixels_of_the_file(project):
    samples = load_predictor(project.config, project.checkpoint).predict_paths(paths(project), 2)
    assert [sample.ori_shape for sample in samples] == list(SIZES)
    assert [tuple(sample.pred_instances.masks.shape[1:]) for sample in samples] == list(SIZES)
    assert [sample.img_path for sample in samples] == [str(path) for path in paths(project)]


def test_same_as_mmdet_itself(project):
    model = init_detector(str(project.config), str(project.checkpoint), device='cpu')
    predictor = load_predictor(project.config, project.checkpoint)
    path = paths(project)[0]
    assert same(inference_detector(model, str(path)), predictor.predict_paths([path])[0])
    image = cv2.imread(str(path))
    assert same(inference_detector(model, image), predictor.predict_images([image])[0])


def test_workers_keep_the_order(project):
    predictor = load_predictor(project.config, project.checkpoint)
    read = [s for batch in predictor.batches(paths(project), 2, num_workers=2) for s in batch]
    assert [sample.img_path for sample in read] == [str(path) for path in paths(project)]


@pytest.mark.parametrize('num_workers', [0, 1])
@pytest.mark.parametrize('loader', ['castkd.LoadImage', 'LoadImageFromFile'])
def test_broken_image_is_named(project, tmp_path, num_workers, loader):
    whole = paths(project)[0].read_bytes()
    (tmp_path / 'cut.png').write_bytes(whole[: len(whole) // 2])
    options = {'test_dataloader.dataset.pipeline.0.type': loader}
    predictor = load_predictor(project.config, project.checkpoint, cfg_options=options)
    batches = predictor.batches([paths(project)[0], tmp_path / 'cut.png'], 1, num_workers)
    next(batches)
    with pytest.raises(DataError, match=r'cut\.png') as caught:
        next(batches)
    assert '\n' not in str(caught.value)


def test_missing_and_foreign_checkpoint(project, tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth' does not exist"):
        load_predictor(project.config, tmp_path / 'none.pth')
    options = {'model.panoptic_head.num_queries': 7}
    with pytest.raises(CheckpointError, match=r"plain\.pth' is a checkpoint of another model"):
        load_predictor(project.config, project.checkpoint, cfg_options=options)


def test_checkpoint_of_other_classes(project):
    options = {'test_dataloader.dataset.metainfo.classes': ('person', 'car')}
    with pytest.raises(
        CheckpointError, match=r"trained on classes \('car', 'person'; 2 in all\) but the test"
    ):
        load_predictor(project.config, project.checkpoint, cfg_options=options)


def test_checkpoint_without_classes_takes_those_of_the_test_data(project, tmp_path):
    content = torch.load(project.checkpoint, weights_only=True)
    torch.save(content['state_dict'], tmp_path / 'bare.pth')
    assert load_predictor(project.config, tmp_path / 'bare.pth').classes == CLASSES


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = dict(', 'cannot be read'),
        ('recipe = []', "has no 'model'"),
        ("model = dict(type='Mask2Formr')", 'model cannot be built: KeyError: Mask2Formr'),
        ("model = dict(type='Mask2Former')", "model cannot be built: TypeError: .*'backbone'"),
    ],
)
def test_bad_config(project, tmp_path, text, message):
    (tmp_path / 'bad.py').write_text(f"default_scope = 'mmdet'\n{text}")
    with pytest.raises(ConfigError, match=message) as caught:
        load_predictor(tmp_path / 'bad.py', project.checkpoint)
    assert r'bad.py' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_config_without_test_data(project, tmp_path):
    config = Config.fromfile(project.config)
    config.pop('test_dataloader')
    config.dump(tmp_path / 'bare.py')
    with pytest.raises(ConfigError, match=r'has no test_dataloader\.dataset\.pipeline'):
        load_predictor(tmp_path / 'bare.py', project.checkpoint)


def test_missing_config_bad_option_and_bad_device(project, tmp_path):
    with pytest.raises(ConfigError, match=r"none\.py' does not exist"):
        load_predictor(tmp_path / 'none.py', project.checkpoint)
    with pytest.raises(ConfigError, match='does not fit the config'):
        load_predictor(project.config, project.checkpoint, cfg_options={'model.type.a': 1})
    with pytest.raises(ConfigError, match="device 'no' cannot be used"):
        load_predictor(project.config, project.checkpoint, device='no')


def test_student_config_takes_the_preprocessing_from_around_the_student(project):
    config = Config.fromfile(project.distiller_config)
    inner = config.model.student.pop('data_preprocessor')
    config.model.data_preprocessor = {
        'type': 'castkd.MultiViewPreprocessor',
        'data_preprocessor': inner,
    }
    before = copy.deepcopy(config.to_dict())
    plain = student_config(config)
    assert plain.model.data_preprocessor == inner
    assert config.to_dict() == before
    assert 'custom_hooks' not in plain
    assert 'train_cfg' not in plain


def test_student_config_adds_the_default_loops(project):
    config = Config.fromfile(project.config)
    config.pop('test_cfg')
    config.pop('val_evaluator')
    config.pop('val_cfg')
    plain = student_config(config)
    assert plain.test_cfg == {}
    assert 'val_cfg' not in plain


@pytest.mark.parametrize('step', [None, {'type': 'castkd.LabelsAtStride'}])
def test_segmentor(tmp_path, step):
    # The annotations that its pipeline names do not exist and are not read, nor is their grid that of predictions.
    config = Config(
        {
            'model': tiny_segmentor(),
            'test_dataloader': {
                'dataset': {
                    'type': 'BaseSegDataset',
                    'metainfo': {'classes': ('road', 'car', 'sky')},
                    'pipeline': [
                        {'type': 'LoadImageFromFile'},
                        {'type': 'LoadAnnotations'},
                        *([step] if step else []),
                        {'type': 'PackSegInputs'},
                    ],
                }
            },
        }
    )
    config.dump(tmp_path / 'seg.py')
    model = MODELS.build(copy.deepcopy(config.model))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'seg.pth')
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 50, 3), np.uint8))
    predictor = load_predictor(tmp_path / 'seg.py', tmp_path / 'seg.pth')
    assert predictor.classes == ('road', 'car', 'sky')
    assert predictor.predict_paths([tmp_path / 'a.png'])[0].pred_sem_seg.shape == (40, 50)
