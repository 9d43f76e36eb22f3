# Cityscapes, all 2975 images labelled: what all stages share.
# The network is the one that LAD's authors train on VOC; the recipes put others in its place.
_base_ = [
    '../../_base_/datasets/cityscapes_semantic.py',
    '../../_base_/runtime/semantic.py',
    '../../_base_/schedules/sgd_poly_40k.py',
]

from castkd.architectures import label_assisted, resnet_segmentor

network = resnet_segmentor(
    len(_base_.classes), 'deeplabv3', deep_stem=True, pretrained='open-mmlab://resnet18_v1c'
)
# The two paths of the teacher are to differ by the noise of the labels, not by dropout.
network['decode_head']['dropout_ratio'] = network['auxiliary_head']['dropout_ratio'] = 0.01
twin = label_assisted(network)
sync_bn = 'torch'  # between processes

train_dataloader = dict(
    batch_size=16,
    batch_sampler=dict(counts=dict(_delete_=True, labeled=16)),
    dataset=dict(
        split=dict(fraction=1.0), sources=dict(_delete_=True, labeled=_base_.labeled_dataset)
    ),
)
