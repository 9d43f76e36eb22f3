# The wider teacher, a Wide ResNet-50-2, by cross pseudo supervision.
_base_ = ['./base.py', '../../_base_/methods/cps.py']

model = dict(
    student=_base_.wider,
    peers=dict(second=_base_.wider),
    classes=_base_.classes,
    objectives=dict(cps=_base_.teachers_cps),
)
train_cfg = dict(max_iters=1500)
