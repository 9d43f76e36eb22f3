# Cityscapes, all 2975 images labelled: what all stages share.
_base_ = ['../../_base_/datasets/cityscapes_semantic.py', '../shared.py']

from castkd.data_configs import labeled_only

train_dataloader = labeled_only(_base_.labeled_dataset, 16, split=False)
