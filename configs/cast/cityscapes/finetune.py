# CAST stage 3: the distilled student on the labelled images alone, a tenth of the rate and of the iterations.
_base_ = './supervised.py'

model = dict(student_checkpoint='work_dirs/cast_cityscapes/distill/iter_90000.pth')
optim_wrapper = dict(optimizer=dict(lr=5e-6))
train_cfg = dict(max_iters=9_000, val_interval=9_000)
