# Generated street scenes, all labelled, with SegFormers of half the width of B0 and of B0's width.
_base_ = '../semantic/base.py'
from castkd.architectures import segformer, stage_channels
from castkd.data_configs import labeled_only

student = dict(segformer(19, embed_dims=16, depths=(1, 1, 1, 1), channels=64), _delete_=True)
teacher = dict(segformer(19, channels=64), _delete_=True)
distilled = dict(
    student_channels=stage_channels(16),
    teacher_channels=stage_channels(32),
    fusion=dict(bottleneck_norm='none'),
)
teacher_file = 'work_dirs/transkd_scenes/teacher/iter_300.pth'

train_dataloader = labeled_only(_base_.labeled_dataset, 4, split=False)
