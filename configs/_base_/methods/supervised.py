# The student's own loss on labelled images: the baseline of every method, and CAST's stage 3.
model = dict(type='castkd.Distiller', objectives=dict(sup=dict(type='castkd.Supervised')))
