# The student on labels and on the label maps that the teacher made of the other scenes.
_base_ = ['./base.py', '../../_base_/methods/supervised.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    objectives=dict(unsup=dict(type='castkd.PseudoLabel')),
)
train_dataloader = dict(
    dataset=dict(
        sources=dict(
            unlabeled=dict(
                _delete_=True,
                type='castkd.PseudoMapDataset',
                ann_file='work_dirs/semantic_scenes/label/annotations.json',
                data_prefix=dict(img=_base_.data_root + 'leftImg8bit/train/'),
                metainfo=_base_.metainfo,
                pipeline=_base_.pseudo_pipeline,
            )
        )
    )
)
