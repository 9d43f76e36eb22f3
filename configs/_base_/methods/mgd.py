# MGD (Qin et al., ECCV 2022): a deeper and a wider teacher, both frozen, teach labelled images at
# the level of pixels and mixed unlabelled ones at the levels of pixels, image and region. A config
# adds student, classes, the teachers' networks and checkpoints, and where they differ the weights of
# the levels. A batch needs twice as many unlabelled images as it shall have mixed ones.
model = dict(
    type='castkd.Distiller',
    teachers=dict(
        deeper=dict(type='castkd.FrozenTeacher'), wider=dict(type='castkd.FrozenTeacher')
    ),
    views=dict(unsup_mixed=dict(type='castkd.CutMix', source='unsup_teacher')),
    objectives=dict(
        sup=dict(type='castkd.Supervised'),
        mgd=dict(
            type='castkd.MultiGranularity',
            deeper='deeper',
            wider='wider',
            pixel_weight=1.0,
            image_weight=0.002,
            region_weight=100.0,
        ),
    ),
)
