import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from castkd.architectures import segformer
from castkd.errors import ConfigError
from castkd.registry import TRANSFORMS, build_model


def reduce(label, img_shape, **options):
    step = TRANSFORMS.build({'type': 'castkd.LabelsAtStride', **options})
    results = {'img_shape': img_shape, 'gt_seg_map': label, 'seg_fields': ['gt_seg_map']}
    return step(results)


def positions(height, width):
    return np.arange(height)[:, None] * 1000 + np.arange(width)


def test_takes_the_label_at_the_centre():
    results = reduce(positions(8, 12), (8, 12))
    assert results['gt_seg_map'].tolist() == [[2002, 2006, 2010], [6002, 6006, 6010]]
    assert results['ori_shape'] == results['pad_shape'] == (2, 3)
    assert results['img_shape'] == (8, 12)


def test_odd_sizes_round_up_as_strided_convolutions_do():
    # The sizes of ACDC at height 512.
    assert reduce(np.zeros((512, 910), np.uint8), (512, 910))['gt_seg_map'].shape == (128, 228)
    results = reduce(positions(5, 9), (5, 9))
    assert results['gt_seg_map'].shape == (2, 3)
    assert results['gt_seg_map'].max() < 5000


def test_a_label_map_in_the_size_of_the_file_is_reduced_at_once():
    results = reduce(positions(16, 32), (8, 16), stride=4)
    assert results['gt_seg_map'].tolist() == [
        [4004, 4012, 4020, 4028],
        [12004, 12012, 12020, 12028],
    ]


def test_images_without_labels_pass():
    step = TRANSFORMS.build({'type': 'castkd.LabelsAtStride'})
    assert step({'img_shape': (8, 8)})['ori_shape'] == (2, 2)


def test_stride_is_checked():
    with pytest.raises(ConfigError, match='stride must be an integer'):
        TRANSFORMS.build({'type': 'castkd.LabelsAtStride', 'stride': 0})


def test_loss_and_prediction_of_mmseg_stay_on_the_grid_of_the_logits():
    torch.manual_seed(0)
    network = build_model(segformer(3, embed_dims=8, depths=(1, 1, 1, 1), channels=8)).eval()
    image = torch.randn(1, 3, 32, 64)
    results = reduce(np.random.default_rng(0).integers(0, 3, (32, 64)), (32, 64))
    sample = SegDataSample(metainfo={key: results[key] for key in ('img_shape', 'ori_shape')})
    sample.set_metainfo({'pad_shape': results['pad_shape']})
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(results['gt_seg_map'])[None])
    with torch.no_grad():
        logits = network(image, [sample], mode='tensor')
        loss = network.loss(image, [sample])['decode.loss_ce']
        found = network.predict(image, [sample.clone()])[0]
    assert logits.shape == (1, 3, 8, 16)
    assert torch.equal(found.pred_sem_seg.data[0], logits[0].argmax(0))
    expected = torch.nn.functional.cross_entropy(logits, sample.gt_sem_seg.data)
    torch.testing.assert_close(loss, expected)
