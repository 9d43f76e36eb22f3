# Microscopy nuclei, everything from random weights, small enough to train on a CPU. The student has 0.8 M parameters.
_base_ = [
    '../../_base_/datasets/nuclei128_instance.py',
    '../../_base_/schedules/adamw_scratch.py',
    '../../_base_/runtime/default.py',
]
from castkd.architectures import solov2

# A tile is 128 x 128 pixels; sizes are square roots of box areas, in pixels.
student = solov2(
    num_classes=1,
    depth=18,
    base_channels=16,
    channels=32,
    stacked_convs=2,
    num_grids=(32, 24, 16, 8),
    scale_ranges=((1, 24), (16, 48), (32, 96), (64, 256)),
    smallest=(1, 1, 2, 4),
    # A nucleus of ten pixels is two or three mask pixels wide. At 0.45 the areas of the labelled tiles' nuclei,
    # enlarged as predictions are, have the nuclei's own size; at 0.5 they lack 5 % of it.
    area_targets=True,
    mask_thr=0.45,
    max_per_image=60,
)
queries = dict(type='castkd.GridQueries', levels=4, num_queries=60)
# 16 x 16 pixels a tile: at stride 32 a tile would have 16 pixels and most nuclei none.
contrast = dict(
    feature='backbone[1]',
    queries=queries,
    projector=dict(type='castkd.ProjectionHead', in_channels=32),
)

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_dataloader = dict(
    # Tiles are read in a tenth of a step; a process for them would take a core from the training.
    num_workers=0,
    persistent_workers=False,
    # The authors mix all images in one set, where labels are rarer still.
    batch_sampler=dict(counts=dict(labeled=2, unlabeled=6)),
    dataset=dict(split=dict(fraction=0.02)),
)
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
train_cfg = dict(val_interval=100_000)  # at the end only
default_hooks = dict(checkpoint=dict(interval=500))
