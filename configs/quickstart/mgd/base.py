# Generated street scenes with small SegFormers: two labelled images a step, and two mixed of four others.
_base_ = '../semantic/base.py'
from castkd.architectures import segformer

student = dict(segformer(19, embed_dims=16, depths=(1, 1, 1, 1), channels=64), _delete_=True)
deeper = segformer(19, embed_dims=32, depths=(2, 2, 2, 2), channels=64)
wider = segformer(19, embed_dims=40, depths=(1, 1, 1, 1), channels=64)

train_dataloader = dict(batch_size=6, batch_sampler=dict(counts=dict(labeled=2, unlabeled=4)))
