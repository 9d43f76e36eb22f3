# DIST: correlation of class probabilities, without KD.
_base_ = '../supervised.py'

model = dict(
    objectives=dict(
        dist=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg',
            loss=dict(type='castkd.CorrelationDistillation', beta=1.0, gamma=1.0),
            weight=1.0,
        )
    )
)
