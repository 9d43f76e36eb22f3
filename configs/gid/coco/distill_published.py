# The student by GID from mmdet's published RetinaNet with a ResNet-101 (38.9 box AP), so that no teacher is trained.
# A stage to be run alone: recipes put their own teacher in its place.
# Its file, of the model zoo: https://github.com/open-mmlab/mmdetection/tree/main/configs/retinanet
_base_ = './distill.py'
from mmengine.hub import get_config

published = get_config('mmdet::retinanet/retinanet_r101_fpn_2x_coco.py').model.to_dict()
model = dict(
    teachers=dict(
        big=dict(
            model=dict(_delete_=True, _scope_='mmdet', **published),
            checkpoint='data/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth',
        )
    ),
)
