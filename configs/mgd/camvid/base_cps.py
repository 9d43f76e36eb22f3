# Two networks of one form that label for each other in the second half of a training.
_base_ = ['./base.py', '../../_base_/methods/cps_late.py']

# Scaled to half its size an image fills 42 % of a crop.
model = dict(classes=_base_.classes, objectives=dict(cps=dict(mask_padding=True)))
