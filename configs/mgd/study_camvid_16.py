# MGD beside its peers on CamVid, 1/16 of the images labelled (23 of 367):
#   python tools/study.py configs/mgd/study_camvid_16.py --seeds 0 1 2
# 1/8: --cfg-options fraction=0.125 --work-dir work_dirs/mgd_camvid_8_study
# Every network has 1200 steps of 4 labelled images; all but the first row have 4 mixed ones beside them.
_base_ = './mgd_camvid.py'

work_dir = 'work_dirs/mgd_camvid_16'  # of every seed: work_dirs/mgd_camvid_16_study/seed0, ...

deeper = next(stage for stage in _base_.recipe if stage['name'] == 'deeper')
recipe = [
    *_base_.recipe,
    dict(deeper, name='cps', config='{folder}/cps.py'),
    dict(
        deeper,
        name='kd',
        config='{folder}/kd.py',
        cfg_options={
            **deeper['cfg_options'],
            'model.teachers.big.checkpoint': '{deeper.checkpoint}',
        },
    ),
]
*before, mgd = _base_.report['rows']
report = dict(
    rows=[
        *before,
        dict(stage='kd', label='student, KD of the deeper teacher'),
        dict(stage='cps', label='student, CPS'),
        mgd,
    ],
    pictures=dict(best=5, worst=5, stages=['supervised', 'cps', 'distill']),
)
# They are in the recipe now; as variables they would take options that change nothing.
del deeper, before, mgd
