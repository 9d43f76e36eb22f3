# The ResNet-18 student by MGD.
_base_ = ['./base.py', '../../_base_/methods/mgd.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        deeper=dict(
            model=_base_.deeper, checkpoint='work_dirs/mgd_cityscapes/deeper/iter_44525.pth'
        ),
        wider=dict(model=_base_.wider, checkpoint='work_dirs/mgd_cityscapes/wider/iter_44525.pth'),
    ),
    objectives=dict(mgd=dict(image_weight=0.001, region_weight=100.0)),
)
