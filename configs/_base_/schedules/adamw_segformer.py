# AdamW as mmseg trains SegFormer, 160 000 iterations: warm-up, then a line to zero; the head ten times
# as fast, norms without decay.
_base_ = './adamw_transkd.py'

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'norm': dict(decay_mult=0.0), 'decode_head': dict(lr_mult=10.0)}
    )
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, begin=0, end=1500, by_epoch=False),
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=1500, by_epoch=False),
]
train_cfg = dict(max_iters=160_000, val_interval=16_000)
