# The student by MGD.
_base_ = ['./base.py', '../../_base_/methods/mgd.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        deeper=dict(model=_base_.deeper, checkpoint='work_dirs/mgd_camvid/deeper/iter_1500.pth'),
        wider=dict(model=_base_.wider, checkpoint='work_dirs/mgd_camvid/wider/iter_1500.pth'),
    ),
    objectives=dict(
        mgd=dict(image_weight=0.002, region_weight=100.0, class_weight=_base_.class_weight)
    ),
)
