# What each part of CAST's stage 2 does, on microscopy nuclei with 2 % of the tiles labelled:
#   python tools/study.py configs/cast/ablation_nuclei128_2pct.py --seeds 0
# Every row is the student after a short stage 2 with one thing changed; compare with "all parts", and cues with
# the fused one.
# Stages that a finished run of cast_nuclei128_2pct.py has in the same work directory are not made again.
_base_ = './cast_nuclei128_2pct.py'

contrast = 'model.objectives.cast'
labels = 'train_dataloader.dataset.sources.unlabeled.ann_file'
variants = dict(
    whole=('all parts', {}),
    sup=(
        'labels alone, 2 tiles a step',
        {'model.objectives.unsup.weight': 0.0, f'{contrast}.weight': 0.0},
    ),
    sup_semi=('labels and pseudo-labels', {f'{contrast}.weight': 0.0}),
    sup_contrast=('labels and contrast', {'model.objectives.unsup.weight': 0.0}),
    labels_of_1a=('pseudo-labels of 1a', {labels: '{label_adapted.annotations}'}),
    all_slivers=(
        'pseudo-labels with slivers (min_kept 0)',
        {labels: '{label_slivers.annotations}'},
    ),
    # Where labels forbid negatives on the anchor's own nucleus, a cue has little left to avoid.
    **{
        f'cue_{cue}': (
            f'cue: {cue}, nothing forbidden',
            {f'{contrast}.loss.cue': cue, f'{contrast}.loss.forbid_same_instance': False},
        )
        for cue in ('uniform', 'mask', 'class', 'fused')
    },
    negatives_50=('50 negatives', {f'{contrast}.loss.num_negatives': 50}),
    negatives_800=('800 negatives', {f'{contrast}.loss.num_negatives': 800}),
    temperature_007=('temperature 0.07', {f'{contrast}.loss.temperature': 0.07}),
    temperature_05=('temperature 0.5', {f'{contrast}.loss.temperature': 0.5}),
    weight_001=('lambda_pxl 0.01', {f'{contrast}.weight': 0.01}),
    weight_05=('lambda_pxl 0.5', {f'{contrast}.weight': 0.5}),
)
stages = {stage['name']: stage for stage in _base_.recipe}
distill, slivers = stages['distill'], stages['label_self_trained']
short = {**distill['cfg_options'], 'train_cfg.max_iters': 960}
recipe = [
    *[
        stage
        for stage in _base_.recipe
        if stage['name'] not in ('supervised', 'distill', 'finetune')
    ],
    dict(slivers, name='label_slivers', min_kept=0.0),
    *[
        dict(distill, name=name, cfg_options={**short, **changed})
        for name, (_, changed) in variants.items()
    ],
]
report = dict(
    rows=[dict(stage=name, label=label) for name, (label, _) in variants.items()],
    pictures=dict(num=0, best=0, worst=0, stages=None),
)
del contrast, labels, variants, stages, distill, slivers, short
