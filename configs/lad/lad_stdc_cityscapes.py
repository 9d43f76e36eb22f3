# LAD on Cityscapes with STDC1-Seg, batch 16, 40 000 iterations a stage:
#   python tools/train.py configs/lad/lad_stdc_cityscapes.py
# The paper has it; its number could not be read.
_base_ = '../_base_/recipes/lad.py'

from castkd.architectures import label_assisted, stdc

folder = 'cityscapes'
weights = (
    'https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/stdc/stdc1_20220308-5368626c.pth'
)
network = stdc(19, pretrained=weights)
del weights
twin = label_assisted(network)
