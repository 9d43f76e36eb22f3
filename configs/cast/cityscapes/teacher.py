# What the teacher's stages share: MM-Grounding-DINO (Swin-L) and SAM 2.1 (Hiera-L), images as DETR augments them.
_base_ = ['./base.py', '../../_base_/methods/cast_foundation.py']
from castkd.architectures import foundation_segmentor
from castkd.data_configs import detector_geometry, instance_data

teacher = foundation_segmentor(_base_.classes)
data = instance_data(
    _base_,
    _base_.dataset,
    **_base_.files,
    augmentation=detector_geometry(),
    test_scale=_base_.test_scale,
)
labeled_dataset = data['labeled_dataset']
pseudo_dataset = data['pseudo_dataset']
train_dataloader = data['train_dataloader']
del data
