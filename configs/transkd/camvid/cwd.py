# The student on labels and by CWD of logits and of the feature before them.
_base_ = ['./base.py', '../../_base_/methods/distillation/cwd.py']

model = dict(
    student=_base_.student,
    teachers=dict(
        big=dict(type='castkd.FrozenTeacher', model=_base_.teacher, checkpoint=_base_.teacher_file)
    ),
    classes=_base_.classes,
    objectives=dict(
        cwd_feature=dict(
            taps='decode_head.dropout:input',
            connector=dict(type='castkd.ConvConnector', in_channels=64, out_channels=128),
        )
    ),
)
