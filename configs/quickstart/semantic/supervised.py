# The student on the labelled scenes alone.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(student=_base_.student, classes=_base_.classes)
train_dataloader = dict(
    batch_sampler=dict(counts=dict(_delete_=True, labeled=4)),
    dataset=dict(sources=dict(_delete_=True, labeled=_base_.labeled_dataset)),
)
