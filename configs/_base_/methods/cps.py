# Cross pseudo supervision with CutMix (Chen et al., CVPR 2021): two networks of one architecture
# label mixed unlabelled images for each other; the student is handed over. MGD's teachers are trained
# so. A config adds student, classes and the peer, peers=dict(second=...). A batch needs twice as many
# unlabelled images as it shall have mixed ones.
model = dict(
    type='castkd.Distiller',
    views=dict(unsup_mixed=dict(type='castkd.CutMix', source='unsup_teacher')),
    objectives=dict(
        sup=dict(type='castkd.Supervised'),
        sup_second=dict(type='castkd.Supervised', network='second'),
        cps=dict(type='castkd.CrossPseudoSupervision', peer='second', weight=1.0),
    ),
)
