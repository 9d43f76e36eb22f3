# cast_coco.py with another student: Mask2Former with a ResNet-50, 44 M parameters.
_base_ = './cast_coco.py'

from castkd.architectures import mask2former

network = mask2former(80, norm_eval=True, pretrained='torchvision://resnet50')
student = {'model.student': dict(_delete_=True, **network)}
contrast = {'model.objectives.cast.projector.in_channels': 2048}
changed = dict(supervised=student, distill={**student, **contrast}, finetune=student)
recipe = [
    dict(stage, cfg_options={**stage['cfg_options'], **changed[stage['name']]})
    if stage['name'] in changed
    else stage
    for stage in _base_.recipe
]
del network, student, contrast, changed
