# TransKD beside the distillation of logits and features, on CamVid, all images labelled:
#   python tools/study.py configs/transkd/study_camvid.py --seeds 0 1 2
# Every network has 1200 steps of 8 images.
_base_ = './transkd_camvid.py'

work_dir = 'work_dirs/transkd_camvid'  # of every seed: work_dirs/transkd_camvid_study/seed0, ...

base = next(stage for stage in _base_.recipe if stage['name'] == 'base')
recipe = [
    *_base_.recipe,
    dict(base, name='kd', config='{folder}/kd.py'),
    dict(base, name='cwd', config='{folder}/cwd.py'),
]
teacher, supervised, *transkd = _base_.report['rows']
report = dict(
    # Differences are those to the first row.
    rows=[
        supervised,
        dict(stage='kd', label='student, KD'),
        dict(stage='cwd', label='student, CWD'),
        *transkd,
        teacher,
    ],
    pictures=dict(best=5, worst=5, stages=['supervised', 'cwd', 'ea']),
)
# They are in the recipe now; as variables they would take options that change nothing.
del base, teacher, supervised, transkd
