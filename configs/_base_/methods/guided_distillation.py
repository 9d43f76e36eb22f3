# Guided Distillation (Berrada et al., WACV 2024), phases 1 and 2: pseudo-labels of a teacher that
# stays frozen for a burn-in and then is the student's exponential moving average. A config adds
# burn_in and checkpoint of the teacher, and gives photometric to the student's view.
_base_ = './supervised.py'

model = dict(
    teachers=dict(ema=dict(type='castkd.EMATeacher', decay=0.9996)),
    pseudo_labeler=dict(type='castkd.QueryPseudoLabeler', score_thr=0.7, min_soft_area=5.0),
    objectives=dict(unsup=dict(type='castkd.PseudoLabel', teacher='ema', weight=2.0)),
)
photometric = dict(jitter_prob=0.8, gray_prob=0.2, blur_prob=0.5, blur_kernel=None)
