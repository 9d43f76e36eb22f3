# Quickstart: three-stage CAST on generated street scenes (60 of 600 labelled), minutes on 2 CPU cores:
#   python tools/make_scenes.py && python tools/train.py configs/quickstart/cast_scenes.py
# So short a run shows how everything fits together; docs/results.md has runs that say how well it works.
seed = 0
fraction = 0.1

images = 'data/scenes/leftImg8bit/train'
randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
pseudo_labels = 'train_dataloader.dataset.sources.unlabeled.ann_file'
pool = dict(
    kind='pseudo_label',
    images=images,
    exclude='{adapt.split}',
    score_thr=0.4,
    # Only to count how good the labels are.
    reference='data/scenes/annotations/instancesonly_filtered_gtFine_train.json',
)

recipe = [
    dict(name='supervised', config='scenes/supervised.py', cfg_options=randomness),
    dict(name='adapt', config='scenes/adapt.py', cfg_options=randomness),
    dict(
        **pool,
        name='label_adapted',
        config='{adapt.config}',
        checkpoint='{adapt.checkpoint}',
    ),
    dict(
        name='self_train',
        config='scenes/self_train.py',
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
        config='scenes/distill.py',
        cfg_options={**randomness, pseudo_labels: '{label_self_trained.annotations}'},
    ),
    dict(
        name='finetune',
        config='scenes/finetune.py',
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
