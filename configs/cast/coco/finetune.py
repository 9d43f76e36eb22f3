# CAST stage 3: the distilled student on the labelled images alone, a tenth of the rate and of the iterations.
_base_ = './supervised.py'

model = dict(student_checkpoint='work_dirs/cast_coco/distill/iter_368750.pth')
optim_wrapper = dict(optimizer=dict(lr=1e-5))
train_cfg = dict(max_iters=36_875, val_interval=36_875)
