# Cross pseudo supervision of two networks that start from random weights: at first they agree on nothing worth
# learning, so that each learns from labels alone before it learns from the other.
_base_ = ['./base.py', '../../_base_/methods/cps.py']

model = dict(
    classes=_base_.classes,
    objectives=dict(
        cps=dict(weight=dict(_delete_=True, type='Linear', start=0.0, end=1.0, begin=150, steps=50))
    ),
)
