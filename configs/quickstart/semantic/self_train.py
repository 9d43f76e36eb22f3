# The student on labels and on the label maps that the teacher made of the other scenes.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    objectives=dict(unsup=dict(type='castkd.PseudoLabel')),
)
pseudo = dict(_base_.pseudo_dataset, ann_file='work_dirs/semantic_scenes/label/annotations.json')
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(_delete_=True, **pseudo))))
