# CamVid: small SegFormers from random weights, for a CPU. In so few steps ResNets of two depths do not get ahead of a
# shallow one, SegFormers do. All pixels weigh alike, as they do in the labels that networks give each other.
_base_ = [
    '../../_base_/datasets/camvid_semantic_half.py',
    '../../_base_/schedules/sgd_poly.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import segformer

student = segformer(11, embed_dims=16, depths=(1, 1, 1, 1), channels=64)
deeper = segformer(11, embed_dims=32, depths=(2, 2, 2, 2), channels=128)
wider = segformer(11, embed_dims=48, depths=(1, 1, 1, 1), channels=128)

train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    persistent_workers=False,
    batch_sampler=dict(counts=dict(labeled=4, unlabeled=8)),
)
val_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
# From random weights SGD is far behind in so few steps.
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=1e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='castkd.PolyLR', power=0.9, eta_min=0.0, begin=50, by_epoch=False),
]
train_cfg = dict(max_iters=1200, val_interval=100_000)  # validation at the end only
