# CamVid, all 367 images labelled: a small network from random weights, for a CPU.
_base_ = [
    '../../_base_/datasets/camvid_semantic_half.py',
    '../../_base_/runtime/semantic.py',
    '../../_base_/schedules/sgd_poly_40k.py',
]
from castkd.architectures import label_assisted, resnet_segmentor
from castkd.data_configs import labeled_only

# The two paths of the teacher are to differ by the noise of the labels, not by dropout.
network = resnet_segmentor(
    11,
    'fcn',
    base_channels=16,
    channels=64,
    dropout=0.01,
    class_weight=_base_.class_weight,
)
twin = label_assisted(network)

train_dataloader = dict(
    labeled_only(_base_.labeled_dataset, 8, split=False), num_workers=0, persistent_workers=False
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=1000, val_interval=100_000)  # validation at the end only
