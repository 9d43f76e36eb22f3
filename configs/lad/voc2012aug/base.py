# VOC 2012 with the labels of SBD, all 10 582 images labelled: what all stages share.
_base_ = ['../../_base_/datasets/voc2012aug_semantic.py', '../shared.py']

from castkd.data_configs import labeled_only

network = dict(decode_head=dict(num_classes=21), auxiliary_head=dict(num_classes=21))
twin = dict(network)

train_dataloader = labeled_only(_base_.labeled_dataset, 16, split=False)
train_cfg = dict(val_interval=800)
