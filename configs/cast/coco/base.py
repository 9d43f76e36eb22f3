# COCO instances: what all stages share.
_base_ = [
    '../../_base_/datasets/coco_instance.py',
    '../../_base_/runtime/default.py',
]

# Labelled and unlabelled images in equal numbers, as Guided Distillation draws them; the numbers are those of one
# process.
train_dataloader = dict(
    batch_size=8, num_workers=4, batch_sampler=dict(counts=dict(labeled=4, unlabeled=4))
)
default_hooks = dict(checkpoint=dict(interval=5000))
