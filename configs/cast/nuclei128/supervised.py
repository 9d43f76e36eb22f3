# The student on the labelled tiles alone: the baseline, with as many iterations as stages 2 and 3 together.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(student=_base_.student, classes=_base_.classes)
train_dataloader = dict(
    batch_sampler=dict(counts=dict(_delete_=True, labeled=8)),
    dataset=dict(sources=dict(_delete_=True, labeled=_base_.labeled_dataset)),
)
train_cfg = dict(max_iters=3000)
