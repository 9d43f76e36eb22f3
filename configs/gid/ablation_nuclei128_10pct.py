# What each part of GID does, on microscopy nuclei with 10 % of the tiles labelled:
#   python tools/study.py configs/gid/ablation_nuclei128_10pct.py --seeds 0
# Stages that a finished run of gid_nuclei128_10pct.py has in the same work directory are not made again.
_base_ = './gid_nuclei128_10pct.py'

weights = dict(
    feature=['feature_weight'],
    relation=['relation_weight'],
    response=['class_weight', 'box_weight'],
)
off = {
    part: {f'model.objectives.gid.{name}': 0.0 for name in names} for part, names in weights.items()
}
labeled, unlabeled = '{folder}/distill_labeled.py', '{folder}/distill.py'
variants = dict(
    pseudo_label=(
        'pseudo-labels without GID',
        unlabeled,
        {**off['feature'], **off['relation'], **off['response']},
    ),
    unlabeled=('GID without pseudo-labels', unlabeled, {'model.objectives.unsup.weight': 0.0}),
    labeled=('GID on labels', labeled, {}),
    heavy_relation=(
        "GID on labels, the paper's relation weight",
        labeled,
        {'model.objectives.gid.relation_weight': 40.0},
    ),
    feature=('features on labels', labeled, {**off['relation'], **off['response']}),
    relation=('relations on labels', labeled, {**off['feature'], **off['response']}),
    response=('responses on labels', labeled, {**off['feature'], **off['relation']}),
    feature_response=('features and responses on labels', labeled, off['relation']),
)
supervised, distill = _base_.recipe[0], _base_.recipe[-1]
recipe = [
    *_base_.recipe,
    dict(
        supervised,
        name='all_labels',
        cfg_options={
            **supervised['cfg_options'],
            'train_dataloader.dataset.split': dict(fraction=1.0, seed='{seed}'),
        },
    ),
    *[
        dict(distill, name=name, config=config, cfg_options={**distill['cfg_options'], **options})
        for name, (_, config, options) in variants.items()
    ],
]
report = dict(
    rows=[
        *_base_.report['rows'],
        *[dict(stage=name, label=f'student, {label}') for name, (label, *_) in variants.items()],
        dict(stage='all_labels', label='student, all labels'),
    ],
    pictures=dict(num=0, best=0, worst=0),
)
del weights, off, labeled, unlabeled, variants, supervised, distill
