# GID as a recipe: the labels-only student beside it, the teacher, the distilled student. A recipe sets
# folder (of the stage configs).
seed = 0
fraction = 0.1

randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
recipe = [
    dict(name='supervised', config='{folder}/supervised.py', cfg_options=randomness),
    dict(name='teacher', config='{folder}/teacher.py', cfg_options=randomness),
    dict(
        name='distill',
        config='{folder}/distill.py',
        cfg_options={**randomness, 'model.teachers.big.checkpoint': '{teacher.checkpoint}'},
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='teacher', label='teacher, labels only'),
        dict(stage='distill', label='student, GID'),
    ],
    curves=['gid.score', 'gid.background_share', 'gid.teacher_share', 'gid.class_excess'],
)
# They are in the recipe now; as variables they would take options that change nothing.
del randomness
