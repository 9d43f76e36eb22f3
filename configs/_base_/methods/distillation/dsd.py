# DSD: attention that moves between logits, feature and logits, and overlap of classes; without KD.
_base_ = '../supervised.py'

model = dict(
    objectives=dict(
        psd=dict(
            type='castkd.Distillation',
            teacher='big',
            taps=['decode_head.conv_seg', 'decode_head.conv_seg:input', 'decode_head.conv_seg'],
            loss=dict(type='castkd.PixelSimilarity'),
            weight=1000.0,
        ),
        csd=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg',
            loss=dict(type='castkd.CategorySimilarity', tau=4.0),
            weight=10.0,
        ),
    )
)
