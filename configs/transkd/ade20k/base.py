# ADE20K as mmseg trains SegFormer: crops of 512 x 512 in distorted colours on 8 GPUs with two images each, both
# networks from ImageNet weights.
_base_ = [
    '../../_base_/datasets/ade20k_semantic.py',
    '../../_base_/schedules/adamw_segformer.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import segformer
from castkd.data_configs import color_jitter, labeled_only

weights = 'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/'
student = segformer(150, pretrained=weights + 'mit_b0_20220624-7e0fe6dd.pth')
teacher = segformer(
    150,
    embed_dims=64,
    depths=(3, 4, 6, 3),
    pretrained=weights + 'mit_b2_20220624-66e8bf70.pth',
)
teacher_file = 'work_dirs/transkd_segformer_ade20k/teacher/iter_160000.pth'
sync_bn = 'torch'  # between processes

labeled_pipeline = [
    *_base_.labeled_pipeline[:2],  # image and label map
    *_base_.geometry,
    color_jitter(),
    *_base_.labeled_views,
]
train_dataloader = labeled_only(
    dict(_base_.labeled_dataset, pipeline=labeled_pipeline), 2, split=False
)
