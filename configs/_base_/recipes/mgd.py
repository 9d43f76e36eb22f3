# MGD as a recipe: the labels-only student beside it, the two teachers, the student. A recipe sets
# folder (of the stage configs).
seed = 0
fraction = 0.125

randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
recipe = [
    dict(name='supervised', config='{folder}/supervised.py', cfg_options=randomness),
    dict(name='deeper', config='{folder}/deeper.py', cfg_options=randomness),
    dict(name='wider', config='{folder}/wider.py', cfg_options=randomness),
    dict(
        name='distill',
        config='{folder}/distill.py',
        cfg_options={
            **randomness,
            'model.teachers.deeper.checkpoint': '{deeper.checkpoint}',
            'model.teachers.wider.checkpoint': '{wider.checkpoint}',
        },
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='deeper', label='deeper teacher'),
        dict(stage='wider', label='wider teacher'),
        dict(stage='distill', label='student, MGD'),
    ],
    curves=['mgd.agreement', 'cps.agreement'],
)
# They are in the recipe now; as variables they would take options that change nothing.
del randomness
