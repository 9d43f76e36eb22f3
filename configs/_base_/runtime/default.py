# What every castkd training shares: logging, checkpoints, and the hooks that watch a distillation.
# Iterations are the unit everywhere. A training config sets train_cfg, usually the checkpoint
# interval, and where a labelled validation set exists, the teacher floors of
# castkd.TeacherPreflight.
default_scope = 'mmdet'
custom_imports = dict(imports=['castkd'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    # A new checkpoint replaces the oldest before it is written, so two are the least that always leaves a good one.
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=500, save_last=True, max_keep_ckpts=2
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
)
custom_hooks = [
    dict(type='castkd.TeacherPreflight', num_images=16),
    dict(type='castkd.Watchdog', window=50, teacher_interval=1000),
    dict(type='castkd.StopOnNonFinite'),
    dict(type='castkd.Provenance'),
    dict(type='castkd.PseudoLabelStatistics', interval=500, num_images=16),
    dict(type='castkd.Pictures', interval=500),
    dict(type='castkd.StageMetrics'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)
# Statistics of a step scatter as its losses do: both are logged as means over the window.
log_processor = dict(
    type='LogProcessor',
    window_size=50,
    by_epoch=False,
    mean_pattern=r'loss|time|grad_norm|^(cast|cps|gid|mgd|pseudo)\.',
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='DetLocalVisualizer', vis_backends=vis_backends, name='visualizer')

launcher = 'none'
log_level = 'INFO'
load_from = None
resume = False
