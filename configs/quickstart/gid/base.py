# Generated street scenes at 128 x 256 by their boxes, with RetinaNets small enough to train on 2 CPU cores.
_base_ = [
    './retinanet.py',
    '../../_base_/datasets/scenes_cars.py',
    '../../_base_/schedules/adamw_scratch.py',
    '../../_base_/runtime/default.py',
]

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_dataloader = dict(
    batch_size=6, num_workers=1, batch_sampler=dict(counts=dict(labeled=4, unlabeled=2))
)
val_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(max_iters=300, val_interval=100_000)  # at the end only
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(type='LoggerHook', interval=25))
