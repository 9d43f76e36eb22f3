# Cross pseudo supervision of two networks that start from random weights: at first they agree on nothing worth
# learning, so that each learns from labels alone before it learns from the other. A config sets begin and steps.
_base_ = './cps.py'

model = dict(
    objectives=dict(
        cps=dict(
            weight=dict(_delete_=True, type='Linear', start=0.0, end=1.0, begin=600, steps=200)
        )
    )
)
