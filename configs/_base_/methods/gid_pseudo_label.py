# GID on labelled and unlabelled images together with pseudo-labels (an extension of the paper): the same teacher
# labels unlabelled images on their weak view, in the step; on their strong view, which shares its pixels, the student
# learns these labels and is compared with the teacher. Each network runs once per image.
_base_ = './gid_unlabeled.py'

model = dict(
    pseudo_labeler=dict(type='castkd.InstancePseudoLabeler', score_thr=0.5),
    objectives=dict(
        gid=dict(unlabeled_views=[('unsup_student', 'unsup_teacher')]),
        # Where most images show objects, one without any is worth learning from.
        unsup=dict(type='castkd.PseudoLabel', teacher='big', drop_empty=False),
    ),
)
