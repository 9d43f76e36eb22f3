# The student on labels and pseudo-labels, no distillation.
_base_ = ['./base_pseudo.py', '../../_base_/methods/supervised.py']

model = dict(
    student=_base_.network,
    classes=_base_.classes,
    objectives=dict(unsup=dict(type='castkd.PseudoLabel')),
)
