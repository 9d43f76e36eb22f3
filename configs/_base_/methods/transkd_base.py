# TransKD-Base (Liu et al., arXiv 2202.13393): feature maps by cross selective fusion and the
# hierarchical context loss, patch embeddings by a linear map and the mean squared error. A config
# adds student, classes, and model and checkpoint of teachers.big. The widths are those of B0 and B2
# of SegFormer and of PVTv2.
_base_ = './supervised.py'

model = dict(
    teachers=dict(big=dict(type='castkd.FrozenTeacher')),
    objectives=dict(
        transkd=dict(
            type='castkd.TransKD',
            teacher='big',
            student_channels=(32, 64, 160, 256),
            teacher_channels=(64, 128, 320, 512),
            fusion=dict(
                type='castkd.CrossSelectiveFusion',
                mid_channels=64,
                bottleneck_channels=32,
                # The published code. With fewer than about 8 images a process: 'none'.
                bottleneck_norm='switch',
            ),
            alignment=dict(type='castkd.PatchEmbeddingAlignment'),
            feature_weight=1.0,
            embedding_weights=(0.1, 0.1, 0.5, 1.0),
        ),
    ),
)
