# LAD where 1/16 of CamVid is labelled (23 of 367) and an ordinary student labels the other images:
#   python tools/study.py configs/lad/study_camvid_16.py --seeds 0 1 2
# Every network has 1000 steps of 8 labelled images, those with pseudo-labels 8 of the others beside them.
_base_ = './lad_camvid.py'

work_dir = 'work_dirs/lad_camvid_16'  # of every seed: work_dirs/lad_camvid_16_study/seed0, ...

fraction = 0.0625
score_thr = 0.8

few = {'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}')}
supervised, teacher, student = (
    dict(stage, cfg_options={**stage['cfg_options'], **few}) for stage in _base_.recipe
)
labels = {'train_dataloader.dataset.sources.unlabeled.ann_file': '{label.annotations}'}
recipe = [
    supervised,
    dict(
        name='label',
        kind='pseudo_label',
        config='{supervised.config}',
        checkpoint='{supervised.checkpoint}',
        images='data/camvid/images/train',
        exclude='{supervised.split}',
        score_thr='{score_thr}',
        reference='data/camvid/labels/train',
    ),
    teacher,
    dict(
        supervised,
        name='pseudo',
        config='{folder}/pseudo.py',
        cfg_options={**supervised['cfg_options'], **labels},
    ),
    student,
    dict(
        student,
        name='student_pseudo',
        config='{folder}/student_pseudo.py',
        cfg_options={**student['cfg_options'], **labels},
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='teacher', label='teacher, labels fed in'),
        dict(stage='pseudo', label='student, pseudo-labels'),
        dict(stage='student', label='student, LAD on labels only'),
        dict(stage='student_pseudo', label='student, LAD and pseudo-labels'),
    ],
    pictures=dict(best=5, worst=5, stages=['supervised', 'pseudo', 'student_pseudo']),
)
# They are in the recipe now; as variables they would take options that change nothing.
del few, supervised, teacher, student, labels
