# LAD on ADE20K with STDC1-Seg, batch 16, 40 000 iterations a stage:
#   python tools/train.py configs/lad/lad_stdc_ade20k.py
# The paper has it; its number could not be read.
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, stdc

folder = 'ade20k'
weights = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/stdc/stdc1_20220308-5368626c.pth'
)
network = stdc(150, pretrained=weights)
del weights
# The fixed values of 151 classes would lie closer together than the noise of a pixel.
twin = label_assisted(network, mode='random')
