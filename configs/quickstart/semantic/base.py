# Generated street scenes at 128 x 256, 19 classes, small enough to train in minutes on 2 CPU cores.
_base_ = [
    '../../_base_/datasets/scenes_semantic.py',
    '../../_base_/schedules/adamw_scratch.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import resnet_segmentor

teacher = resnet_segmentor(19, 'fcn', base_channels=32, channels=64, num_convs=1)
student = resnet_segmentor(19, 'fcn', base_channels=16, channels=32, num_convs=1)

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_dataloader = dict(
    batch_size=4, num_workers=1, batch_sampler=dict(counts=dict(labeled=2, unlabeled=2))
)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=300, val_interval=100_000)  # at the end only
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(type='LoggerHook', interval=25))
