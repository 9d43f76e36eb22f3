# The ResNet-18 student on the labels alone: as many steps and labelled images as with MGD.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(student=_base_.student, classes=_base_.classes)
train_dataloader = dict(
    batch_size=4,
    batch_sampler=dict(counts=dict(_delete_=True, labeled=4)),
    dataset=dict(sources=dict(_delete_=True, labeled=_base_.labeled_dataset)),
)
