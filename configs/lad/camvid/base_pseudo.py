# CamVid with few labels, and with the label maps that an earlier stage made of the other images.
_base_ = './base.py'

train_dataloader = dict(
    batch_size=16,
    batch_sampler=dict(counts=dict(labeled=8, unlabeled=8)),
    dataset=dict(
        split=dict(fraction=0.0625),
        sources=dict(
            unlabeled=dict(
                _base_.pseudo_dataset, ann_file='work_dirs/lad_camvid_16/label/annotations.json'
            )
        ),
    ),
)
