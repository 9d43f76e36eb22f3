# Cityscapes; the paper's numbers (16 labelled and 16 mixed images a step, 8 and 8 for a teacher) on 4 GPUs.
_base_ = [
    '../../_base_/datasets/cityscapes_semantic.py',
    '../../_base_/schedules/sgd_poly.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import deeplabv3plus

common = dict(
    num_classes=19,
    loss=dict(type='castkd.OHEMCrossEntropy', threshold=0.7, min_kept=50_000),
    window=(512, 1024),
)
student = deeplabv3plus(backbone='resnet18', pretrained='open-mmlab://resnet18_v1c', **common)
student_mobilenet = deeplabv3plus(
    backbone='mobilenet_v2', pretrained='mmcls://mobilenet_v2', **common
)
deeper = deeplabv3plus(backbone='resnet101', pretrained='open-mmlab://resnet101_v1c', **common)
wider = deeplabv3plus(
    backbone='wide_resnet50',
    pretrained='https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth',
    **common,
)
sync_bn = 'torch'  # in distributed runs
train_dataloader = dict(batch_size=12, batch_sampler=dict(counts=dict(labeled=4, unlabeled=8)))
optim_wrapper = dict(optimizer=dict(lr=0.0025, weight_decay=8e-4))
train_cfg = dict(max_iters=22_194)
