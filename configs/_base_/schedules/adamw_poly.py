# AdamW with polynomial decay: the optimiser of CAST's student on Cityscapes (batch 8, 90 000 iterations). On ADE20K the
# paper's code has base_lr 1e-4, weight_decay 0.05 and 160 000 iterations.
# A config that changes these variables must set the entries derived from them as well.
max_iters = 90_000
val_interval = 45_000
base_lr = 5e-5
weight_decay = 0.1

# No decay on norms and embeddings. The longest key that is part of a parameter's name decides, so the norms of a
# backbone fall under 'backbone': a model whose backbone trains its norms adds longer keys for them.
embedding = dict(lr_mult=1.0, decay_mult=0.0)
backbone_embedding = dict(lr_mult=0.1, decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=base_lr, weight_decay=weight_decay, eps=1e-8, betas=(0.9, 0.999)
    ),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.1, decay_mult=1.0),
            'absolute_pos_embed': backbone_embedding,
            'relative_position_bias_table': backbone_embedding,
            'position_embeddings': backbone_embedding,
            'cls_token': backbone_embedding,
            'query_embed': embedding,
            'query_feat': embedding,
            'level_embed': embedding,
        },
        norm_decay_mult=0.0,
    ),
    # Over the whole model: all loss terms share this budget.
    clip_grad=dict(max_norm=0.01, norm_type=2),
)
# lr * (1 - t / T) ** 0.9 at step t: mmengine's PolyLR reaches eta_min one step before its end.
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=0.0, begin=0, end=max_iters + 1, by_epoch=False)
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=val_interval)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
