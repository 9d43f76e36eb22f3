# LAD stage 2: an ordinary network learns from labels and, by channel-wise distillation of the logits,
# from the label-assisted teacher. A config adds student, and model and checkpoint of teachers.twin.
_base_ = './supervised.py'

model = dict(
    teachers=dict(twin=dict(type='castkd.LabelAssistedTeacher')),
    objectives=dict(
        distill=dict(
            type='castkd.Distillation',
            teacher='twin',
            taps='decode_head.conv_seg',
            loss=dict(type='castkd.ChannelWiseDistillation', tau=4.0),
            views=['sup'],
            weight=3.0,
        ),
    ),
)
