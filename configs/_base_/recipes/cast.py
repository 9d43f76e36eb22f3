# CAST as a recipe: the labels-only student beside it, the teacher's stages, the student's stages. A
# recipe sets folder (of the stage configs), images (of the pool), reference (labels of the pool,
# only to count how good the pseudo-labels are; None without) and score_thr.
seed = 0
fraction = 0.1
min_kept = 0.0  # of a pseudo-label's pixels after overlaps; 0 is the paper's code

randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
pseudo_labels = 'train_dataloader.dataset.sources.unlabeled.ann_file'
pool = dict(
    kind='pseudo_label',
    images='{images}',
    exclude='{adapt.split}',
    score_thr='{score_thr}',
    min_kept='{min_kept}',
    reference='{reference}',
)

recipe = [
    dict(name='supervised', config='{folder}/supervised.py', cfg_options=randomness),
    dict(name='adapt', config='{folder}/adapt.py', cfg_options=randomness),
    dict(
        name='label_adapted',
        config='{adapt.config}',
        checkpoint='{adapt.checkpoint}',
        **pool,
    ),
    dict(
        name='self_train',
        config='{folder}/self_train.py',
        cfg_options={**randomness, pseudo_labels: '{label_adapted.annotations}'},
    ),
    dict(
        name='label_self_trained',
        config='{self_train.config}',
        checkpoint='{self_train.checkpoint}',
        **pool,
    ),
    dict(
        name='distill',
        config='{folder}/distill.py',
        cfg_options={**randomness, pseudo_labels: '{label_self_trained.annotations}'},
    ),
    dict(
        name='finetune',
        config='{folder}/finetune.py',
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
    curves=['cast.separation', 'cast.cue_false_negative_rate', 'cast.mask_entropy'],
    pictures=dict(best=3, worst=3, stages=['supervised', 'self_train', 'finetune']),
)
# They are in the recipe now; as variables they would take options that change nothing.
del randomness, pseudo_labels, pool
