# Microscopy nuclei, everything from random weights: a 12.6 M teacher and a 3.1 M student that train on a CPU.
_base_ = [
    '../../_base_/datasets/nuclei128_instance.py',
    '../../_base_/schedules/adamw_scratch.py',
    '../../_base_/runtime/default.py',
]
from castkd.architectures import mask2former

teacher = mask2former(
    num_classes=1,
    depth=18,
    base_channels=64,
    channels=128,
    num_queries=40,
    encoder_layers=2,
    decoder_layers=3,
    ffn_channels=512,
    num_points=512,
)
student = mask2former(
    num_classes=1,
    depth=18,
    base_channels=32,
    channels=64,
    num_queries=40,
    encoder_layers=1,
    decoder_layers=3,
    ffn_channels=256,
    num_points=512,
)
# Stride 8, 16 x 16 pixels a tile: at stride 32 a tile would have 16 pixels and most nuclei none.
feature = 'backbone[1]'
teacher_projector = dict(type='castkd.ProjectionHead', in_channels=128)
student_projector = dict(type='castkd.ProjectionHead', in_channels=64)

train_dataloader = dict(
    num_workers=1,
    batch_sampler=dict(counts=dict(labeled=4, unlabeled=4)),
    dataset=dict(split=dict(fraction=0.02)),
)
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(val_interval=100_000)  # at the end only
default_hooks = dict(checkpoint=dict(interval=250))
