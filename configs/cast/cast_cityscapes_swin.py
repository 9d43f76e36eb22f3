# cast_cityscapes.py with another student: Mask2Former with Swin-T, 47 M parameters.
_base_ = './cast_cityscapes.py'

from castkd.architectures import mask2former

folder_of_weights = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0'
network = mask2former(
    8,
    transformer='tiny',
    pretrained=f'{folder_of_weights}/swin_tiny_patch4_window7_224.pth',
)
keys = 'optim_wrapper.paramwise_cfg.custom_keys'
student = {
    'model.student': dict(_delete_=True, **network),
    f'{keys}.relative_position_bias_table': dict(lr_mult=0.1, decay_mult=0.0),
}
recipe = [
    dict(stage, cfg_options={**stage['cfg_options'], **student})
    if stage['name'] in ('supervised', 'distill', 'finetune')
    else stage
    for stage in _base_.recipe
]
del folder_of_weights, network, keys, student
