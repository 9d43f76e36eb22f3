# CAST stage 3: the distilled student on the labelled scenes alone, at a tenth of the rate.
_base_ = './supervised.py'

model = dict(student_checkpoint='work_dirs/cast_scenes/distill/iter_600.pth')
optim_wrapper = dict(optimizer=dict(lr=2e-4))
train_cfg = dict(max_iters=200)
