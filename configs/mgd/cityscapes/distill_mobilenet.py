# The MobileNetV2 student by MGD; its weights are those of VOC, the paper gives none.
_base_ = './distill.py'

model = dict(
    student=dict(_delete_=True, **_base_.student_mobilenet),
    objectives=dict(mgd=dict(image_weight=0.0005, region_weight=50.0)),
)
