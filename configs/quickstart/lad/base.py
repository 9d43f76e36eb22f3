# Generated street scenes, all labelled, with a small network and its twin that reads labels.
_base_ = '../semantic/base.py'
from castkd.architectures import label_assisted, resnet_segmentor
from castkd.data_configs import labeled_only

network = resnet_segmentor(19, 'fcn', base_channels=16, channels=32, num_convs=1, dropout=0.01)
twin = label_assisted(network)
train_dataloader = labeled_only(_base_.labeled_dataset, 4, split=False)
