# CamVid, all 367 images labelled: SegFormers of half the width from random weights, for a CPU.
_base_ = [
    '../../_base_/datasets/camvid_semantic_half.py',
    '../../_base_/schedules/adamw_transkd.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import segformer, stage_channels
from castkd.data_configs import labeled_only

common = dict(num_classes=11, class_weight=_base_.class_weight)
student = segformer(embed_dims=16, depths=(1, 1, 1, 1), channels=64, **common)
teacher = segformer(embed_dims=32, depths=(2, 2, 2, 2), channels=128, **common)
widths = dict(student_channels=stage_channels(16), teacher_channels=stage_channels(32))
teacher_file = 'work_dirs/transkd_camvid/teacher/iter_1200.pth'

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=50, by_epoch=False),
]
train_dataloader = dict(
    labeled_only(_base_.labeled_dataset, 8, split=False), num_workers=0, persistent_workers=False
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=1200, val_interval=100_000)  # validation at the end only
