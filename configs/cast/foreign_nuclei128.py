# A teacher that knows another domain, the stand-in for a foundation model: pretrained on all tiles of
# fluorescent cells, adapted to stained tissue with 20 labelled tiles, distilled with the other 253.
#   python tools/train.py configs/cast/foreign_nuclei128.py
# Everything is validated on stained tissue; the row of the pretrained teacher is its zero-shot AP. Beside
# it stand plain training on the self-trained teacher's labels, and on the true labels of all 273 tiles.
_base_ = './cast_nuclei128_2pct.py'

fraction = 20 / 273
stained = {
    'train_dataloader.dataset.sources.labeled.ann_file': 'train_stained.json',
    'val_dataloader.dataset.ann_file': 'val_stained.json',
    'test_dataloader.dataset.ann_file': 'val_stained.json',
    'val_evaluator.ann_file': 'data/nuclei128/val_stained.json',
    'test_evaluator.ann_file': 'data/nuclei128/val_stained.json',
}
# Networks that begin with what the teacher of cells knows need fewer steps, and 273 tiles give fewer.
start = {'model.student_checkpoint': '{pretrain.checkpoint}'}
starts = dict(
    adapt={**start, 'train_cfg.max_iters': 500},
    self_train={**start, 'train_cfg.max_iters': 1000},
)
recipe = [
    dict(
        name='pretrain',
        config='{folder}/pretrain.py',
        cfg_options={
            'randomness.seed': '{seed}',
            **{key: value for key, value in stained.items() if not key.startswith('train')},
        },
    ),
    *[
        dict(
            stage,
            cfg_options={**stage['cfg_options'], **stained, **starts.get(stage['name'], {})},
        )
        if 'cfg_options' in stage
        # The folder holds the tiles of cells as well: only the pool of the split is labelled.
        else dict(stage, exclude=None, include='{adapt.split}')
        for stage in _base_.recipe
    ],
]
stages = {stage['name']: stage for stage in recipe}
pseudo_labels = 'train_dataloader.dataset.sources.unlabeled.ann_file'
recipe += [
    dict(
        stages['supervised'],
        name='pseudo_label',
        config='{folder}/pseudo_label.py',
        cfg_options={
            **stages['supervised']['cfg_options'],
            pseudo_labels: '{label_self_trained.annotations}',
        },
    ),
    dict(
        stages['supervised'],
        name='all_labels',
        cfg_options={
            **stages['supervised']['cfg_options'],
            'train_dataloader.dataset.split': dict(fraction=1.0, seed='{seed}'),
        },
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='pretrain', label='teacher of cells, zero-shot'),
        *_base_.report['rows'][1:],
        dict(stage='pseudo_label', label="student, plain training on the teacher's labels (1c)"),
        dict(stage='all_labels', label='student, all labels'),
    ],
)
del stained, start, starts, stages, pseudo_labels
