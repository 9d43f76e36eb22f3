# CAST on microscopy nuclei with 2 % of the tiles labelled (33 of 1636), from random weights, about
# an hour on 2 CPU cores:
#   python tools/train.py configs/cast/cast_nuclei128_2pct.py
# Labelled fraction and seed are variables:
#   --cfg-options seed=1 fraction=0.1 --work-dir work_dirs/other
# Results: docs/results.md.
seed = 0
fraction = 0.02

data_root = 'data/nuclei128/'
randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
pseudo_labels = 'train_dataloader.dataset.sources.unlabeled.ann_file'
pool = dict(
    kind='pseudo_label',
    images=data_root + 'train',
    exclude='{adapt.split}',
    score_thr=0.6,
    reference=data_root + 'train.json',  # only to count how good the labels are
)

recipe = [
    dict(name='supervised', config='nuclei128/supervised.py', cfg_options=randomness),
    dict(name='adapt', config='nuclei128/adapt.py', cfg_options=randomness),
    dict(
        **pool,
        name='label_adapted',
        config='{adapt.config}',
        checkpoint='{adapt.checkpoint}',
    ),
    dict(
        name='self_train',
        config='nuclei128/self_train.py',
        cfg_options={**randomness, pseudo_labels: '{label_adapted.annotations}'},
    ),
    dict(
        **pool,
        name='label_self_trained',
        config='{self_train.config}',
        checkpoint='{self_train.checkpoint}',
    ),
    dict(
        name='distill',
        config='nuclei128/distill.py',
        cfg_options={**randomness, pseudo_labels: '{label_self_trained.annotations}'},
    ),
    dict(
        name='finetune',
        config='nuclei128/finetune.py',
        cfg_options={**randomness, 'model.student_checkpoint': '{distill.checkpoint}'},
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='adapt', label='teacher, adapted (1a)'),
        dict(stage='self_train', label='teacher, self-trained (1c)'),
        dict(stage='distill', label='student, distilled (2)'),
        dict(stage='finetune', label='student, fine-tuned (3)'),
    ],
    pictures=dict(num=6),
)
