# CWD: every channel's distribution over space, of logits and of the feature before the classifier,
# with KD. A config adds objectives.cwd_feature.connector (castkd.ConvConnector) where the widths
# differ. The adversarial term is left out.
_base_ = './kd.py'

model = dict(
    objectives=dict(
        cwd=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg',
            loss=dict(type='castkd.ChannelWiseDistillation', tau=4.0),
            weight=3.0,
        ),
        cwd_feature=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg:input',
            loss=dict(type='castkd.ChannelWiseDistillation', tau=4.0),
            weight=50.0,
        ),
    )
)
