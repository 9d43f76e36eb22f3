# AdamW of CAST's teacher: the numbers of MM-Grounding-DINO's fine-tuning (batch 8), 1000 iterations on Cityscapes.
embedding = dict(decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            'absolute_pos_embed': embedding,
            'backbone': dict(lr_mult=0.1),
            # SAM 2: 1e-5 and 0.1, of the values that the paper's code tried (5e-6 to 5e-5) the middle one.
            'segmenter': dict(lr_mult=0.2, decay_mult=10.0),
        },
        # The layers of Grounding DINO's decoder share their box head.
        bypass_duplicate=True,
    ),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [dict(type='MultiStepLR', by_epoch=False, milestones=[700, 900], gamma=0.1)]

train_cfg = dict(type='castkd.ResumableIterLoop', max_iters=1000, val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
