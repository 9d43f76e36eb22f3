# AdamW with polynomial decay to the end of the run: the optimiser of CAST's student on Cityscapes
# (batch 8, 90 000 iterations). On ADE20K the paper's code has lr 1e-4, weight_decay 0.05 and
# 160 000 iterations.

# Norms and embeddings carry no scale that decay should shrink; the constructor holds that for the
# backbone's norms as well, which mmengine's own would let decay because a custom key names them.
embedding = dict(lr_mult=1.0, decay_mult=0.0)
backbone_embedding = dict(lr_mult=0.1, decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='castkd.NormDecayConstructor',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.1, eps=1e-8, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1),
            'cls_token': backbone_embedding,
            'pos_embed': backbone_embedding,
            'position_embeddings': backbone_embedding,
            'query_embed': embedding,
            'query_feat': embedding,
            'level_embed': embedding,
        },
        norm_decay_mult=0.0,
    ),
    # Over the whole model: all loss terms share this budget.
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
# Without an end, mmengine takes the run's last iteration T; the rate at t is (1 - t / (T - 1))^0.9.
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, by_epoch=False)]

train_cfg = dict(type='castkd.ResumableIterLoop', max_iters=90_000, val_interval=45_000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
