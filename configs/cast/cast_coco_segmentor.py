# cast_coco.py with another teacher: an mmdet instance segmentor, here Mask2Former with a ResNet-101.
_base_ = './cast_coco.py'

recipe = [
    dict(stage, config=f'{{folder}}/{stage["name"]}_segmentor.py')
    if stage['name'] in ('adapt', 'self_train')
    else stage
    for stage in _base_.recipe
]
