# CAST with unlabelled images (stages 1c and 2): set loss on labels and on pseudo-labels from a
# file, both on the weak view, and the contrastive loss on all images.
_base_ = './cast_labeled.py'

model = dict(
    objectives=dict(
        unsup=dict(type='castkd.PseudoLabel', view='unsup_teacher', weight=1.0),
        cast=dict(views=[('sup', 'sup_strong'), ('unsup_teacher', 'unsup_student')]),
    )
)
