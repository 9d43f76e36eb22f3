# Quickstart of semantic segmentation: a teacher from few labels labels the other scenes, a smaller
# student learns from both. Minutes on 2 CPU cores:
#   python tools/make_scenes.py && python tools/train.py configs/quickstart/semantic_scenes.py
seed = 0
fraction = 0.125
score_thr = 0.5

randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
recipe = [
    dict(name='supervised', config='semantic/supervised.py', cfg_options=randomness),
    dict(name='teacher', config='semantic/teacher.py', cfg_options=randomness),
    dict(
        name='label',
        kind='pseudo_label',
        config='{teacher.config}',
        checkpoint='{teacher.checkpoint}',
        images='data/scenes/leftImg8bit/train',
        exclude='{teacher.split}',
        score_thr='{score_thr}',
        reference='data/scenes/gtFine/train',
    ),
    dict(
        name='student',
        config='semantic/self_train.py',
        cfg_options={
            **randomness,
            'train_dataloader.dataset.sources.unlabeled.ann_file': '{label.annotations}',
        },
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='teacher', label='teacher'),
        dict(stage='student', label='student, with pseudo-labels'),
    ],
    pictures=dict(best=3, worst=3),
)
# It is in the recipe now; as a variable it would take options that change nothing.
del randomness
