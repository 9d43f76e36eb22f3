# AdamW for small networks that start from random weights: one rate everywhere, a short warm-up,
# polynomial decay.
_base_ = 'adamw_poly.py'

optim_wrapper = dict(
    optimizer=dict(lr=5e-4, weight_decay=0.05),
    paramwise_cfg=dict(
        custom_keys=dict(
            _delete_=True,
            query_embed=_base_.embedding,
            query_feat=_base_.embedding,
            level_embed=_base_.embedding,
        )
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=50, by_epoch=False),
]
