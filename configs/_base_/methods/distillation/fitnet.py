# FitNets: the feature before the classifier behind a 1x1 convolution, with KD. A config adds the
# widths: objectives.fitnet.connector.in_channels (student) and out_channels (teacher).
_base_ = './kd.py'

model = dict(
    objectives=dict(
        fitnet=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg:input',
            loss=dict(type='castkd.HintLoss'),
            connector=dict(type='castkd.ConvConnector'),
            weight=10.0,
        )
    )
)
