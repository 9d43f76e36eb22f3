# What each part of GID does, on microscopy nuclei with 10 % of the tiles labelled:
#   python tools/study.py configs/gid/ablation_nuclei128_10pct.py --seeds 0
# Every row below the first three is the student by GID on labelled tiles alone, with some of its parts. Stages that a
# finished run of gid_nuclei128_10pct.py has in the same work directory are not made again.
_base_ = './gid_nuclei128_10pct.py'

parts = dict(
    feature=['feature_weight'],
    relation=['relation_weight'],
    response=['class_weight', 'box_weight'],
)
variants = dict(
    labeled=('student, GID on labels', ['feature', 'relation', 'response']),
    feature=('features alone', ['feature']),
    relation=('relations alone', ['relation']),
    response=('responses alone', ['response']),
    feature_response=('features and responses', ['feature', 'response']),
)
distill = _base_.recipe[-1]
recipe = [
    *_base_.recipe,
    *[
        dict(
            distill,
            name=name,
            config='{folder}/distill_labeled.py',
            cfg_options={
                **distill['cfg_options'],
                **{
                    f'model.objectives.gid.{weight}': 0.0
                    for part, weights in parts.items()
                    if part not in kept
                    for weight in weights
                },
            },
        )
        for name, (_, kept) in variants.items()
    ],
]
report = dict(
    rows=[
        *_base_.report['rows'][:2],
        dict(stage='distill', label='student, GID with unlabelled tiles'),
        *[dict(stage=name, label=label) for name, (label, _) in variants.items()],
    ],
    pictures=dict(num=0, best=0, worst=0),
)
del parts, variants, distill
