# Cityscapes as TransKD's published code trains it ("paper"): whole images of 512 x 1024, divided by 255
# only, labels and mIoU at a quarter of that, the student from random weights. Its shift of image and
# label by the same number of pixels, which moves the label four times as far, is left out.
_base_ = [
    '../../_base_/datasets/cityscapes_semantic.py',
    '../../_base_/schedules/adamw_transkd.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import segformer
from castkd.data_configs import labeled_only

class_weight = [
    2.596, 6.742, 3.535, 9.866, 9.691, 9.369, 10.289, 9.953, 4.310, 9.490,
    7.674, 9.397, 10.348, 6.393, 10.227, 10.241, 10.281, 10.397, 10.056,
]  # fmt: skip
common = dict(num_classes=19, class_weight=class_weight, mean=(0, 0, 0), std=(255, 255, 255))
student = segformer(**common)
teacher = segformer(
    embed_dims=64,
    depths=(3, 4, 6, 3),
    channels=768,
    pretrained='https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/mit_b2_20220624-66e8bf70.pth',
    **common,
)
teacher_file = 'work_dirs/transkd_segformer_cityscapes_paper/teacher/iter_371000.pth'

load = _base_.labeled_pipeline[:2]  # image and label map
quarter = dict(type='castkd.LabelsAtStride', stride=4)
whole = dict(type='castkd.Resize', scale=(1024, 512), keep_ratio=True)
labeled_pipeline = [
    *load, whole, dict(type='mmdet.RandomFlip', prob=0.5), quarter, *_base_.labeled_views
]  # fmt: skip
test_pipeline = [load[0], dict(whole, type='mmseg.Resize'), load[1], quarter, _base_.pack]
train_dataloader = labeled_only(
    dict(_base_.labeled_dataset, pipeline=labeled_pipeline), 8, split=False
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
