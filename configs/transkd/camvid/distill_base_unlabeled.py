# TransKD-Base where few images are labelled: the others, weakly augmented, are compared too.
_base_ = './distill_base.py'

model = dict(
    teachers=dict(big=dict(checkpoint='work_dirs/transkd_camvid_16/teacher/iter_1200.pth')),
    objectives=dict(transkd=dict(views=['sup', 'unsup_teacher'])),
)
train_dataloader = dict(
    batch_size=16,
    batch_sampler=dict(counts=dict(labeled=8, unlabeled=8)),
    dataset=dict(split=dict(fraction=0.0625), sources=dict(unlabeled=_base_.unlabeled_dataset)),
)
