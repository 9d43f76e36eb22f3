# TransKD as a recipe: the teacher, the student without distillation beside it, the student by Base,
# GL and EA. A recipe sets folder (of the stage configs).
seed = 0

common = {'randomness.seed': '{seed}'}
distilled = {**common, 'model.teachers.big.checkpoint': '{teacher.checkpoint}'}
recipe = [
    dict(name='teacher', config='{folder}/teacher.py', cfg_options=common),
    dict(name='supervised', config='{folder}/supervised.py', cfg_options=common),
    dict(name='base', config='{folder}/distill_base.py', cfg_options=distilled),
    dict(name='gl', config='{folder}/distill_gl.py', cfg_options=distilled),
    dict(name='ea', config='{folder}/distill_ea.py', cfg_options=distilled),
]
report = dict(
    rows=[
        dict(stage='teacher', label='teacher'),
        dict(stage='supervised', label='student, labels only'),
        dict(stage='base', label='student, TransKD-Base'),
        dict(stage='gl', label='student, TransKD-GL'),
        dict(stage='ea', label='student, TransKD-EA'),
    ],
    curves=['transkd.loss_hcl_s4', 'transkd.loss_pea_s4'],
)
# They are in the recipe now; as variables they would take options that change nothing.
del common, distilled
