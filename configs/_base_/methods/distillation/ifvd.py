# IFVD: spread of classes in the feature before the classifier, with KD; views need labels. The
# adversarial term is left out.
_base_ = './kd.py'

model = dict(
    objectives=dict(
        ifvd=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg:input',
            loss=dict(type='castkd.IntraClassVariation'),
            labels=True,
            weight=20.0,
        )
    )
)
