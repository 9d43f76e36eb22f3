# VOC 2012 with SBD's labels; numbers of the paper's code for 4 GPUs with 2 labelled and 2 mixed images each.
_base_ = [
    '../../_base_/datasets/voc2012aug_semantic.py',
    '../../_base_/schedules/sgd_poly.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import deeplabv3plus

student = deeplabv3plus(21, 'resnet18', pretrained='open-mmlab://resnet18_v1c')
student_mobilenet = deeplabv3plus(21, 'mobilenet_v2', pretrained='mmcls://mobilenet_v2')
deeper = deeplabv3plus(21, 'resnet101', pretrained='open-mmlab://resnet101_v1c')
wider = deeplabv3plus(
    21,
    'wide_resnet50',
    pretrained='https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth',
)
sync_bn = 'torch'  # in distributed runs
train_dataloader = dict(batch_size=6, batch_sampler=dict(counts=dict(labeled=2, unlabeled=4)))
