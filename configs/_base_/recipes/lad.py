# LAD as a recipe: the student without distillation beside it, the label-assisted teacher, the student.
# A recipe sets folder (of the stage configs), network (of the student) and twin (of the teacher).
seed = 0
logits = 'decode_head.conv_seg'  # tap of the last head's classifier

common = {'randomness.seed': '{seed}'}
recipe = [
    dict(
        name='supervised',
        config='{folder}/supervised.py',
        cfg_options={**common, 'model.student': '{network}'},
    ),
    dict(
        name='teacher',
        config='{folder}/teacher.py',
        cfg_options={
            **common,
            'model.student': '{twin}',
            'model.objectives.dual.tap': '{logits}',
        },
    ),
    dict(
        name='student',
        config='{folder}/student.py',
        cfg_options={
            **common,
            'model.student': '{network}',
            'model.teachers.twin.model': '{twin}',
            'model.teachers.twin.checkpoint': '{teacher.checkpoint}',
            'model.objectives.distill.taps': '{logits}',
        },
    ),
]
report = dict(
    rows=[
        dict(stage='supervised', label='student, labels only'),
        dict(stage='teacher', label='teacher, labels fed in'),
        dict(stage='student', label='student, LAD'),
    ],
    curves=['dual.loss_consistency', 'distill.loss_sup'],
)
# They are in the recipe now; as variables they would take options that change nothing.
del common
