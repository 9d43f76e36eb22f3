# AT: attention of the feature before the classifier, with KD.
_base_ = './kd.py'

model = dict(
    objectives=dict(
        at=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg:input',
            loss=dict(type='castkd.AttentionTransfer'),
            weight=10000.0,
        )
    )
)
