# gd_cityscapes.py as in the paper: Mask2Former with a ResNet-50, AdamW with 1e-4 and 0.05, 16 labelled and 16
# unlabelled images a step. With N processes divide the three numbers of images by N.
_base_ = './gd_cityscapes.py'

from castkd.architectures import mask2former

network = mask2former(8, norm_eval=True, pretrained='torchvision://resnet50')
options = {
    'model.student': dict(_delete_=True, **network),
    'optim_wrapper.optimizer.lr': 1e-4,
    'optim_wrapper.optimizer.weight_decay': 0.05,
    'train_dataloader.batch_sampler.counts.labeled': 16,
}
images = dict(
    supervised={'train_dataloader.batch_size': 16},
    guided={
        'train_dataloader.batch_size': 32,
        'train_dataloader.batch_sampler.counts.unlabeled': 16,
    },
)
recipe = [
    dict(stage, cfg_options={**stage['cfg_options'], **options, **images[stage['name']]})
    for stage in _base_.recipe
]
del network, options, images
