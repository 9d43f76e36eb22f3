# MGD with two students of the same teachers: the one of mgd.py and a MobileNetV2.
_base_ = './mgd.py'

randomness = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
}
recipe = [
    *_base_.recipe,
    dict(
        name='supervised_mobilenet',
        config='{folder}/supervised_mobilenet.py',
        cfg_options=randomness,
    ),
    dict(
        name='distill_mobilenet',
        config='{folder}/distill_mobilenet.py',
        cfg_options={
            **randomness,
            'model.teachers.deeper.checkpoint': '{deeper.checkpoint}',
            'model.teachers.wider.checkpoint': '{wider.checkpoint}',
        },
    ),
]
report = dict(
    rows=[
        *_base_.report.rows,
        dict(stage='supervised_mobilenet', label='MobileNetV2, labels only'),
        dict(stage='distill_mobilenet', label='MobileNetV2, MGD'),
    ],
)
del randomness
