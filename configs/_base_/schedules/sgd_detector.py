# SGD as detectors train on COCO, twice the usual length ("2x"): 16 images a step, 180 000 steps, the rate
# a tenth after 120 000 and again after 160 000; a linear warm-up over 1000.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=1000, by_epoch=False),
    dict(type='MultiStepLR', milestones=[120_000, 160_000], gamma=0.1, by_epoch=False),
]

train_cfg = dict(type='castkd.ResumableIterLoop', max_iters=180_000, val_interval=30_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
