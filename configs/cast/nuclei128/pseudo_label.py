# Plain pseudo-labelling: the student on labels and on the pseudo-labels of an earlier student, nothing else.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    objectives=dict(unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher')),
)
pseudo = dict(
    _base_.pseudo_dataset, ann_file='work_dirs/study_nuclei128_2pct/label_student/annotations.json'
)
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=dict(_delete_=True, **pseudo))))
train_cfg = dict(max_iters=3000)
