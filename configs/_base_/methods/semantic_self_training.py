# Plain self-training of a segmentor: its own loss on labels, and on the classes that a frozen
# teacher (a config adds it, as teachers.big) is sure of on the weak view, carried to the strong one.
_base_ = './supervised.py'

model = dict(
    pseudo_labeler=dict(type='castkd.SemanticPseudoLabeler', score_thr=0.8),
    objectives=dict(unsup=dict(type='castkd.PseudoLabel', teacher='big', weight=1.0)),
)
