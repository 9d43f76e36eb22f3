# LAD beside the same distillation from an ordinary teacher of the same size, on CamVid, all images labelled:
#   python tools/study.py configs/lad/study_camvid.py --seeds 0 1 2
# Every network has 1000 steps of 8 images.
_base_ = './lad_camvid.py'

work_dir = 'work_dirs/lad_camvid'  # of every seed: work_dirs/lad_camvid_study/seed0, ...

student = next(stage for stage in _base_.recipe if stage['name'] == 'student')
recipe = [
    *_base_.recipe,
    dict(
        student,
        name='cwd',
        config='{folder}/cwd.py',
        cfg_options={
            **student['cfg_options'],
            'model.teachers.twin.model': '{network}',
            'model.teachers.twin.checkpoint': '{supervised.checkpoint}',
        },
    ),
]
*before, lad = _base_.report['rows']
report = dict(
    rows=[*before, dict(stage='cwd', label='student, CWD of an ordinary teacher'), lad],
    pictures=dict(best=5, worst=5, stages=['supervised', 'cwd', 'student']),
)
# They are in the recipe now; as variables they would take options that change nothing.
del student, before, lad
