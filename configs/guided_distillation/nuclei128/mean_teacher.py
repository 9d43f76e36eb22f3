# Mean teacher (Tarvainen and Valpola, 2017) on microscopy nuclei: as Guided Distillation, but the
# teacher follows the student from the first step. Its pseudo-labels count from the warm-up's end on.
_base_ = './guided.py'

model = dict(
    teachers=dict(ema=dict(burn_in=0, checkpoint=None)),
    objectives=dict(
        unsup=dict(weight=dict(_delete_=True, type='Linear', start=0.0, end=2.0, steps=1500))
    ),
)
