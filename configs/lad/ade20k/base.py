# ADE20K, all 20 210 images labelled: what all stages share.
_base_ = ['../../_base_/datasets/ade20k_semantic.py', '../shared.py']

from castkd.data_configs import labeled_only

network = dict(decode_head=dict(num_classes=150), auxiliary_head=dict(num_classes=150))
# The fixed values of 151 classes would lie closer together than the noise of a pixel.
twin = dict(network, test_noise=dict(mode='random'))

train_dataloader = labeled_only(_base_.labeled_dataset, 16, split=False)
