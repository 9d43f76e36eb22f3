# Generated street scenes at 128 x 256, small enough that a whole recipe trains in minutes on 2 CPU cores.
_base_ = [
    '../../_base_/datasets/scenes_instance.py',
    '../../_base_/schedules/adamw_scratch.py',
    '../../_base_/runtime/default.py',
]
from castkd.architectures import mask2former

sizes = dict(num_classes=8, depth=18, encoder_layers=1, num_queries=20, num_points=512)
teacher = mask2former(base_channels=32, channels=64, decoder_layers=3, ffn_channels=256, **sizes)
student = mask2former(base_channels=16, channels=64, decoder_layers=2, ffn_channels=256, **sizes)
feature = 'backbone[2]'
teacher_projector = dict(type='castkd.ProjectionHead', in_channels=128)
student_projector = dict(type='castkd.ProjectionHead', in_channels=64)

train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    batch_sampler=dict(counts=dict(labeled=2, unlabeled=2)),
)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(val_interval=100_000)  # at the end only
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(type='LoggerHook', interval=25))
