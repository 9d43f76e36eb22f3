# The student by MGD.
_base_ = ['./base.py', '../../_base_/methods/mgd.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        deeper=dict(model=_base_.deeper, checkpoint='work_dirs/mgd_camvid/deeper/iter_1200.pth'),
        wider=dict(model=_base_.wider, checkpoint='work_dirs/mgd_camvid/wider/iter_1200.pth'),
    ),
    objectives=dict(
        mgd=dict(
            image_weight=0.002,
            region_weight=100.0,
            mask_padding=True,
            # The decoder of SegFormers has dropout before its classifier.
            feature='decode_head.dropout:input',
        )
    ),
)
