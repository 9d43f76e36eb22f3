# Microscopy nuclei by their boxes: RetinaNets from random weights, small enough to train on a CPU.
_base_ = [
    '../../_base_/datasets/nuclei128_instance.py',
    '../../_base_/schedules/adamw_scratch.py',
    '../../_base_/runtime/default.py',
]
from castkd.architectures import retinanet

# A tile is 128 x 128 pixels: the smallest anchors are 8 pixels wide, the largest 100. The teacher sees tiles at twice
# their size, where its levels have twice the stride: slot by slot they lie on the student's.
geometry_of_slots = dict(channels=32, stacked_convs=2, num_levels=4, anchor_size=2)
student = retinanet(1, depth=18, base_channels=16, first_level=2, **geometry_of_slots)
teacher = retinanet(1, depth=18, base_channels=32, first_level=3, **geometry_of_slots)
big = dict(
    model=teacher,
    classes=_base_.classes,
    checkpoint='work_dirs/gid_nuclei128_10pct/teacher/iter_1500.pth',
    input_scale=2.0,
)
# Half of the nuclei are no more than 10 pixels wide, where the paper drops a box. From random weights the relation
# loss with the paper's weight of 40 has ten times the gradient of the labels; with 4 it is like theirs.
gid = dict(
    selection=dict(min_size=4), adapter=dict(in_channels=32, out_channels=32), relation_weight=4.0
)

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_dataloader = dict(
    # Tiles are read in a tenth of a step; a process for them would take a core from the training.
    num_workers=0,
    persistent_workers=False,
    batch_sampler=dict(counts=dict(labeled=4, unlabeled=4)),
)
val_dataloader = dict(batch_size=8, num_workers=0, persistent_workers=False)
test_dataloader = val_dataloader
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(max_iters=2000, val_interval=100_000)  # validation at the end only
default_hooks = dict(checkpoint=dict(interval=500))
