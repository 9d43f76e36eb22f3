# What the student's stages share: DINOv2-S with a DPT decoder, 52 M parameters, batch 8.
_base_ = ['./base.py', '../../_base_/schedules/adamw_poly.py']
from castkd.architectures import dinov2_mask2former

student = dinov2_mask2former(len(_base_.classes), pretrained='facebook/dinov2-small')
contrast = dict(projector=dict(type='castkd.ProjectionHead', in_channels=768))

# No numbers of CAST: rate and decay are those of Guided Distillation, with its iterations at half its batch.
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
train_cfg = dict(max_iters=368_750, val_interval=100_000)
