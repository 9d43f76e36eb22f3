# Guided Distillation as a recipe: the student on the labels, which is the first teacher (phase 0), and a new student
# (phases 1 and 2). A recipe sets folder (of the stage configs).
seed = 0
fraction = 0.1

randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
recipe = [
    dict(name='supervised', config='../cast/{folder}/supervised.py', cfg_options=randomness),
    dict(
        name='guided',
        config='{folder}/guided.py',
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
