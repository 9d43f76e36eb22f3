# Cityscapes as mmseg trains SegFormer ("mmseg"): crops of 1024 x 1024 in distorted colours on 8 GPUs with one image
# each, mIoU at full size, both networks from ImageNet weights.
_base_ = [
    '../../_base_/datasets/cityscapes_semantic.py',
    '../../_base_/schedules/adamw_segformer.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import segformer
from castkd.data_configs import (
    color_jitter,
    labeled_only,
    map_crop,
    random_geometry,
    scale_jitter,
)

weights = 'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/'
student = segformer(19, slide=1024, pretrained=weights + 'mit_b0_20220624-7e0fe6dd.pth')
teacher = segformer(
    19,
    embed_dims=64,
    depths=(3, 4, 6, 3),
    slide=1024,
    pretrained=weights + 'mit_b2_20220624-66e8bf70.pth',
)
teacher_file = 'work_dirs/transkd_segformer_cityscapes/teacher/iter_160000.pth'
sync_bn = 'torch'  # between processes

labeled_pipeline = [
    *_base_.labeled_pipeline[:2],  # image and label map
    *random_geometry(scale_jitter((2048, 1024), 0.5, 2.0), map_crop((1024, 1024))),
    color_jitter(),
    *_base_.labeled_views,
]
train_dataloader = labeled_only(
    dict(_base_.labeled_dataset, pipeline=labeled_pipeline), 1, split=False
)
