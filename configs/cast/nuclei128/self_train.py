# CAST stage 1c: the teacher again from its first weights, on labels and the pseudo-labels of stage 1a.
_base_ = ['./base.py', '../../_base_/methods/cast.py']

model = dict(
    student=_base_.teacher,
    classes=_base_.classes,
    objectives=dict(
        cast=dict(
            feature=_base_.feature, queries=_base_.queries, projector=_base_.teacher_projector
        )
    ),
)
train_dataloader = dict(
    dataset=dict(
        sources=dict(
            unlabeled=dict(
                _delete_=True,
                type='mmdet.CocoDataset',
                ann_file='work_dirs/cast_nuclei128_2pct/label_adapted/annotations.json',
                data_prefix=dict(img=_base_.data_root + 'train/'),
                metainfo=_base_.metainfo,
                pipeline=_base_.pseudo_pipeline,
            )
        )
    )
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=1000)
