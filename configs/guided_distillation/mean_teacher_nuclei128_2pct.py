# Mean teacher on microscopy nuclei with 2 % of the tiles labelled:
#   python tools/study.py configs/guided_distillation/mean_teacher_nuclei128_2pct.py --seeds 0
seed = 0
fraction = 0.02

recipe = [
    dict(
        name='mean_teacher',
        config='nuclei128/mean_teacher.py',
        cfg_options={
            'randomness.seed': '{seed}',
            'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
        },
    ),
]
report = dict(rows=[dict(stage='mean_teacher', label='student, mean teacher')])
