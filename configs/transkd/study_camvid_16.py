# TransKD-Base where 1/16 of CamVid is labelled (23 of 367), on the labelled images and on all:
#   python tools/study.py configs/transkd/study_camvid_16.py --seeds 0 1 2
# Every network has 1200 steps of 8 labelled images, the row "on all images" 8 of the others beside them.
_base_ = './transkd_camvid.py'

work_dir = (
    'work_dirs/transkd_camvid_16'  # of every seed: work_dirs/transkd_camvid_16_study/seed0, ...
)

fraction = 0.0625

few = {'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}')}
stages = {
    stage['name']: dict(stage, cfg_options={**stage['cfg_options'], **few})
    for stage in _base_.recipe
}
recipe = [
    stages['teacher'],
    stages['supervised'],
    stages['base'],
    dict(stages['base'], name='unlabeled', config='{folder}/distill_base_unlabeled.py'),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='base', label='student, TransKD-Base on labelled images'),
        dict(stage='unlabeled', label='student, TransKD-Base on all images'),
        dict(stage='teacher', label='teacher'),
    ],
    pictures=dict(best=5, worst=5, stages=['supervised', 'base', 'unlabeled']),
)
# They are in the recipe now; as variables they would take options that change nothing.
del few, stages
