# VOC 2012 with the labels of SBD, all 10 582 images labelled: what all stages share.
# The network is the one that LAD's authors train on VOC; the recipes put others in its place.
_base_ = [
    '../../_base_/datasets/voc2012aug_semantic.py',
    '../../_base_/runtime/semantic.py',
    '../../_base_/schedules/sgd_poly_40k.py',
]

from castkd.architectures import label_assisted, resnet_segmentor
from castkd.data_configs import labeled_only

# The two paths of the teacher are to differ by the noise of the labels, not by dropout.
network = resnet_segmentor(
    len(_base_.classes),
    'deeplabv3',
    deep_stem=True,
    dropout=0.01,
    pretrained='open-mmlab://resnet18_v1c',
)
twin = label_assisted(network)
sync_bn = 'torch'  # between processes

train_dataloader = labeled_only(_base_.labeled_dataset, 16, split=False)
train_cfg = dict(val_interval=800)
