# Guided Distillation (Berrada et al., WACV 2024) on microscopy nuclei with 2 % of the tiles labelled,
# about an hour on 2 CPU cores:
#   python tools/train.py configs/guided_distillation/gd_nuclei128_2pct.py
# Teacher and student have one architecture, as the moving average needs it. Results: docs/results.md.
seed = 0
fraction = 0.02

randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
recipe = [
    dict(name='supervised', config='../cast/nuclei128/supervised.py', cfg_options=randomness),
    dict(
        name='guided',
        config='nuclei128/guided.py',
        cfg_options={
            **randomness,
            'model.teachers.ema.checkpoint': '{supervised.checkpoint}',
        },
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only (phase 0 teacher)'),
        dict(stage='guided', label='student, Guided Distillation'),
    ],
    pictures=dict(num=6),
)
# They are in the recipe now; as variables they would take options that change nothing.
del randomness
