# CamVid: small networks from random weights, for a CPU.
_base_ = [
    '../../_base_/datasets/camvid_semantic_half.py',
    '../../_base_/schedules/sgd_poly.py',
    '../../_base_/runtime/semantic.py',
]
from castkd.architectures import deeplabv3plus, pixel_loss

common = dict(num_classes=11, loss=pixel_loss(class_weight=_base_.class_weight))
student = deeplabv3plus(backbone='resnet18', width=0.25, channels=32, **common)
deeper = deeplabv3plus(backbone='resnet50', width=0.25, channels=48, **common)
wider = deeplabv3plus(backbone='wide_resnet50', width=0.1875, channels=48, **common)


# From random weights two networks agree on nothing worth learning at first: each learns from labels alone before it
# learns from the other.
def cps_after(begin):
    return dict(
        class_weight=_base_.class_weight,
        weight=dict(_delete_=True, type='Linear', start=0.0, end=1.0, begin=begin, steps=200),
    )


teachers_cps, student_cps = cps_after(800), cps_after(500)

train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    persistent_workers=False,
    batch_sampler=dict(counts=dict(labeled=4, unlabeled=8)),
)
val_dataloader = dict(batch_size=1, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
# From random weights SGD is far behind in so few steps.
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=2e-3, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, begin=0, end=50, by_epoch=False),
    dict(type='castkd.PolyLR', power=0.9, eta_min=0.0, begin=50, by_epoch=False),
]
train_cfg = dict(max_iters=1000, val_interval=100_000)  # validation at the end only
