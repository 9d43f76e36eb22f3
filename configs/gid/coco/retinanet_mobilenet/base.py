# RetinaNet, ResNet-101 to MobileNetV2. The paper does not say which teacher its MobileNetV2 had.
_base_ = '../retinanet/base.py'
from castkd.architectures import mobilenet_retinanet

student = dict(
    mobilenet_retinanet(len(_base_.classes), pretrained='open-mmlab://mmdet/mobilenet_v2'),
    _delete_=True,
)
