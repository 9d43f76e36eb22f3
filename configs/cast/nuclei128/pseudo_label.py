# Plain pseudo-labelling: the student on labels and on the pseudo-labels of an earlier student, nothing else.
_base_ = './self_train.py'

model = dict(
    student=dict(_delete_=True, **_base_.student),
    objectives=dict(
        _delete_=True,
        sup=dict(type='castkd.Supervised'),
        unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher'),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=1200)
