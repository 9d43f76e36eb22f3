# The student by MGD.
_base_ = ['./base.py', '../../_base_/methods/mgd.py']

model = dict(
    student=_base_.student,
    classes=_base_.classes,
    teachers=dict(
        deeper=dict(model=_base_.deeper, checkpoint='work_dirs/mgd_scenes/deeper/iter_300.pth'),
        wider=dict(model=_base_.wider, checkpoint='work_dirs/mgd_scenes/wider/iter_300.pth'),
    ),
    # The decoder of SegFormers has dropout before its classifier.
    objectives=dict(mgd=dict(feature='decode_head.dropout:input')),
)
