# GID as a recipe: the labels-only student beside it, the teacher, the distilled student. A recipe sets folder (of the
# stage configs), network (of the student) and big (of the teacher), and where they differ the values below.
seed = 0
fraction = 0.1
lr = 0.01
metric = 'bbox'
input_scale = 1.0  # of the teacher's images to the student's
teacher_stage = 'teacher.py'
distill_stage = 'distill.py'

common = {
    'randomness.seed': '{seed}',
    'train_dataloader.dataset.split': dict(fraction='{fraction}', seed='{seed}'),
    'optim_wrapper.optimizer.lr': '{lr}',
    'val_evaluator.metric': '{metric}',
    'test_evaluator.metric': '{metric}',
}
recipe = [
    dict(
        name='supervised',
        config='{folder}/supervised.py',
        cfg_options={**common, 'model.student': '{network}'},
    ),
    dict(
        name='teacher',
        config='{folder}/{teacher_stage}',
        cfg_options={**common, 'model.student': '{big}'},
    ),
    dict(
        name='distill',
        config='{folder}/{distill_stage}',
        cfg_options={
            **common,
            'model.student': '{network}',
            'model.teachers.big.model': '{big}',
            'model.teachers.big.input_scale': '{input_scale}',
            'model.teachers.big.checkpoint': '{teacher.checkpoint}',
        },
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='teacher', label='teacher, labels only'),
        dict(stage='distill', label='student, GID'),
    ],
    curves=['gid.score', 'gid.background_share', 'gid.teacher_share', 'gid.class_excess'],
)
# They are in the recipe now; as variables they would take options that change nothing.
del common
