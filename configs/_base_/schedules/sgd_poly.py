# SGD with polynomial decay to the end of the run, as semi-supervised segmentation trains
# (MGD, VOC, 1/8 labelled: 34 passes at 8 labelled images a step). The authors divide each loss by the
# number of GPUs before the gradients are averaged again: their rate 0.01 and decay 1e-4 on 4 GPUs are
# these numbers in an ordinary run.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='castkd.NormDecayConstructor',
    optimizer=dict(type='SGD', lr=0.0025, momentum=0.9, weight_decay=4e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
# Without an end it is that of the run, T; the rate at step t is (1 - t / T)^0.9.
param_scheduler = [dict(type='castkd.PolyLR', power=0.9, eta_min=0.0, begin=0, by_epoch=False)]

train_cfg = dict(type='castkd.ResumableIterLoop', max_iters=39_338, val_interval=4_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
