# KD: soft logits of a teacher called big, on labelled images. A config adds student and teacher
# (teachers.big), and views where unlabelled images take part; docs/distillation.md tells more.
_base_ = '../supervised.py'

model = dict(
    objectives=dict(
        kd=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg',
            loss=dict(type='castkd.LogitDistillation', tau=1.0),
            weight=1.0,
        )
    )
)
