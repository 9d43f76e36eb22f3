# The MobileNetV2 student by MGD.
_base_ = './distill.py'

model = dict(
    student=dict(_delete_=True, **_base_.student_mobilenet),
    objectives=dict(mgd=dict(image_weight=0.0005, region_weight=50.0)),
)
optim_wrapper = dict(optimizer=dict(lr=0.0035))
