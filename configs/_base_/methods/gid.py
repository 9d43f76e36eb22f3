# GID (Dai et al., CVPR 2021) on labelled images: features, relations and responses of the ten boxes per
# image on which student and teacher disagree most. The weights are the paper's, for every detector; the
# adapter is that of the authors' code, for pyramids of 256 channels on both sides. A config adds
# student, classes, and the teacher's network and checkpoint.
_base_ = './supervised.py'

model = dict(
    teachers=dict(big=dict(type='castkd.FrozenTeacher')),
    objectives=dict(
        gid=dict(
            type='castkd.GeneralInstanceDistillation',
            teacher='big',
            adapter=dict(
                type='castkd.ConvConnector',
                in_channels=256,
                out_channels=256,
                kernel_size=3,
                bias=True,
                identity=True,
            ),
            feature_weight=5e-4,
            relation_weight=40.0,
            class_weight=0.1,
            box_weight=1.0,
        )
    ),
)
