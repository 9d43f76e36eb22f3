# SKD: cosines between pixels of the feature before the classifier, with KD. The adversarial term is left out.
_base_ = './kd.py'

model = dict(
    objectives=dict(
        skd=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg:input',
            loss=dict(type='castkd.PairwiseSimilarity', pool=2),
            weight=10.0,
        )
    )
)
