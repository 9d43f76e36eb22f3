# SGD with polynomial decay, 40 000 iterations of 16 images: the fully supervised segmentors that LAD
# starts from and is compared with (VOC, Cityscapes, ADE20K, CamVid). Weight decay on everything, one
# rate, no warm-up.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4),
)
# Without an end it is that of the run, T; the rate at step t is (1 - t / T)^0.9.
param_scheduler = [dict(type='castkd.PolyLR', power=0.9, eta_min=0.0, begin=0, by_epoch=False)]

train_cfg = dict(type='castkd.ResumableIterLoop', max_iters=40_000, val_interval=4_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
