# Plain training on labelled tiles and pseudo-labels as one set: both in one run of the student, so that they share
# batch statistics and every object counts alike, whoever labelled it.
_base_ = './pseudo_label.py'

pseudo = dict(
    pipeline=_base_.labeled_pipeline,
    # What has no label would teach that nothing is there.
    filter_cfg=dict(filter_empty_gt=True),
)
model = dict(objectives=dict(_delete_=True, sup=dict(type='castkd.Supervised')))
train_dataloader = dict(dataset=dict(sources=dict(unlabeled=pseudo)))
