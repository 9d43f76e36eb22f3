# The wider teacher, Wide ResNet-50-2, by cross pseudo supervision, with half the student's images a step.
_base_ = ['./base.py', '../../_base_/methods/cps.py']

model = dict(
    student=_base_.wider,
    peers=dict(second=_base_.wider),
    classes=_base_.classes,
    objectives=dict(cps=dict(weight=5.0)),
)
train_dataloader = dict(batch_size=6, batch_sampler=dict(counts=dict(labeled=2, unlabeled=4)))
train_cfg = dict(max_iters=44_525)
