# GID on labelled and unlabelled images (an extension of the paper): boxes are selected without labels, so
# unlabelled images are one more view, with the same weight.
_base_ = './gid.py'

model = dict(
    objectives=dict(gid=dict(unlabeled_views=['unsup_teacher'], unlabeled_weight=1.0)),
)
