# Generated street scenes with small DeepLabV3+: two labelled images a step, and two mixed of four others.
_base_ = '../semantic/base.py'
from castkd.architectures import deeplabv3plus

student = dict(deeplabv3plus(19, 'resnet18', width=0.25, channels=32), _delete_=True)
deeper = deeplabv3plus(19, 'resnet50', width=0.125, channels=48)
wider = deeplabv3plus(19, 'wide_resnet50', width=0.125, channels=48)

train_dataloader = dict(batch_size=6, batch_sampler=dict(counts=dict(labeled=2, unlabeled=4)))
train_cfg = dict(max_iters=200)
