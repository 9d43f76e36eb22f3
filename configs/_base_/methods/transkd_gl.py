# TransKD-GL: as Base, the deepest patch embedding mixed by attention and a gated convolution first.
_base_ = './transkd_base.py'

model = dict(objectives=dict(transkd=dict(mixer=dict(type='castkd.GlobalLocalMixer', num_heads=8))))
