# CIRKD: relations between the images of a batch in the feature before the classifier, with KD. The
# terms with a memory of earlier images are left out.
_base_ = './kd.py'

model = dict(
    objectives=dict(
        cirkd=dict(
            type='castkd.Distillation',
            teacher='big',
            taps='decode_head.conv_seg:input',
            loss=dict(type='castkd.CrossImageRelation', temperature=0.1),
            weight=1.0,
        )
    )
)
