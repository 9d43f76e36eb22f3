# AdamW as TransKD's published code trains on Cityscapes: one rate for everything, no warm-up; 1000
# passes over 2975 images at 8 images a step, the rate falling in a line to a third (the authors'
# line would end at zero after 1500 passes). The scalars of GL and EA do not decay.
scalar = dict(decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            'mixer.global_weight': scalar,
            'mixer.local_weight': scalar,
            'assistant.aligned_scale': scalar,
            'assistant.assistant_scale': scalar,
        }
    ),
)
param_scheduler = [dict(type='PolyLR', power=1.0, eta_min=2e-5, begin=0, by_epoch=False)]

train_cfg = dict(type='castkd.ResumableIterLoop', max_iters=371_000, val_interval=3_710)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
