# Another teacher, any mmdet instance segmentor: here a Mask2Former with a ResNet-101, trained as the student is.
_base_ = './student.py'
from castkd.architectures import mask2former

teacher = mask2former(
    len(_base_.classes), depth=101, norm_eval=True, pretrained='torchvision://resnet101'
)
contrast = dict(projector=dict(in_channels=2048))
