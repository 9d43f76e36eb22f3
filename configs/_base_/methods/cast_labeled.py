# CAST without unlabelled images (stage 1a): set loss and contrastive loss on labels. A config adds
# the network, the projector and, where it is not the backbone's last one, the feature that is
# contrasted.
_base_ = './supervised.py'

model = dict(
    objectives=dict(
        cast=dict(
            type='castkd.InstanceContrast',
            views=[('sup', 'sup_strong')],
            loss=dict(
                type='castkd.InstancePixelContrast', num_negatives=200, temperature=0.2, cue='fused'
            ),
            weight=0.1,
        ),
    )
)
