# Generated street scenes at 128 x 256, small enough that a whole recipe trains in minutes on 2 CPU cores.
_base_ = [
    '../../_base_/datasets/scenes_cars.py',
    '../../_base_/schedules/adamw_scratch.py',
    '../../_base_/runtime/default.py',
]
from castkd.architectures import solov2

# A scene is 128 x 256 pixels; sizes are square roots of box areas, in pixels.
sizes = dict(
    num_classes=1,
    depth=18,
    stacked_convs=2,
    num_grids=(32, 24, 16, 8),
    scale_ranges=((1, 24), (16, 48), (32, 96), (64, 256)),
    smallest=(1, 1, 2, 4),
)
teacher = solov2(base_channels=16, channels=32, **sizes)
student = solov2(base_channels=8, channels=16, **sizes)
queries = dict(type='castkd.GridQueries', levels=4)
feature = 'backbone[2]'
teacher_projector = dict(type='castkd.ProjectionHead', in_channels=64)
student_projector = dict(type='castkd.ProjectionHead', in_channels=32)

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    batch_sampler=dict(counts=dict(labeled=4, unlabeled=4)),
)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(val_interval=100_000)  # at the end only
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(type='LoggerHook', interval=25))
