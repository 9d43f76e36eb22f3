# MGD beside its peers on CamVid, 1/16 of the images labelled (23 of 367):
#   python tools/study.py configs/mgd/study_camvid_16.py --seeds 0 1 2
# 1/8: --cfg-options fraction=0.125 --work-dir work_dirs/mgd_camvid_8_study
# Every network has 1200 steps of 4 labelled images; all but the rows of labels alone have 4 mixed ones beside.
_base_ = './mgd_camvid.py'

work_dir = 'work_dirs/mgd_camvid_16'  # of every seed: work_dirs/mgd_camvid_16_study/seed0, ...

stages = {stage['name']: stage for stage in _base_.recipe}
supervised, deeper, distill = stages['supervised'], stages['deeper'], stages['distill']
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
    dict(
        distill,
        name='no_region',
        cfg_options={**distill['cfg_options'], 'model.objectives.mgd.region_weight': 0.0},
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
*before, mgd = _base_.report['rows']
report = dict(
    rows=[
        *before,
        dict(stage='kd', label='student, KD of the deeper teacher'),
        dict(stage='cps', label='student, CPS'),
        mgd,
        dict(stage='no_region', label='student, MGD without its region level'),
        dict(stage='all_labels', label='student, all labels'),
    ],
    pictures=dict(best=5, worst=5, stages=['supervised', 'cps', 'distill']),
)
# They are in the recipe now; as variables they would take options that change nothing.
del stages, supervised, deeper, distill, before, mgd
