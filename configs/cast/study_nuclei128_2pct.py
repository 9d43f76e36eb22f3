# CAST beside its peers on microscopy nuclei, 2 % of the tiles labelled (33 of 1636):
#   python tools/study.py configs/cast/study_nuclei128_2pct.py --seeds 0 1 2 --jobs 2
# Every student has 3000 iterations and 8 tiles a step. Results: docs/results.md.
_base_ = './cast_nuclei128_2pct.py'

pseudo_labels = 'train_dataloader.dataset.sources.unlabeled.ann_file'
stages = {stage['name']: stage for stage in _base_.recipe}
supervised, adapt_labels = stages['supervised'], stages['label_adapted']
recipe = [
    *_base_.recipe,
    dict(
        adapt_labels,
        name='label_student',
        kind='pseudo_label',
        config='{supervised.config}',
        checkpoint='{supervised.checkpoint}',
        exclude='{supervised.split}',
    ),
    dict(
        supervised,
        name='pseudo_label',
        config='nuclei128/pseudo_label.py',
        cfg_options={**supervised['cfg_options'], pseudo_labels: '{label_student.annotations}'},
    ),
    dict(
        supervised,
        name='one_set',
        config='nuclei128/one_set.py',
        cfg_options={**supervised['cfg_options'], pseudo_labels: '{label_student.annotations}'},
    ),
    dict(
        supervised,
        name='guided',
        config='../guided_distillation/nuclei128/guided.py',
        cfg_options={
            **supervised['cfg_options'],
            'model.teachers.ema.checkpoint': '{supervised.checkpoint}',
        },
    ),
    dict(
        supervised,
        name='all_labels',
        cfg_options={
            **supervised['cfg_options'],
            'train_dataloader.dataset.split': dict(fraction=1.0, seed='{seed}'),
        },
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='pseudo_label', label='student, plain pseudo-labels'),
        dict(stage='one_set', label='student, plain pseudo-labels, one set'),
        dict(stage='guided', label='student, Guided Distillation'),
        *_base_.report['rows'][1:],
        dict(stage='all_labels', label='student, all labels'),
    ],
    pictures=dict(best=5, worst=5),
)
del pseudo_labels, stages, supervised, adapt_labels
