# LAD stage 2 with unlabelled images (ours; the paper has none): an earlier stage wrote pseudo-labels,
# the student learns them on the strong view, and the teacher reads them on the weak one.
_base_ = './lad_student.py'

model = dict(
    objectives=dict(
        unsup=dict(type='castkd.PseudoLabel', view='unsup_student', weight=1.0),
        distill=dict(views=['sup', ('unsup_student', 'unsup_teacher')]),
    ),
)
