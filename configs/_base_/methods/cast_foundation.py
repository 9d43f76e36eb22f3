# CAST with the foundation teacher: its schedule, and what is contrasted, the last map of its detector's image backbone
# with boxes for masks. Activations of its largest layers are computed again in the backward run: for 8 images of
# 1024 x 2048 they would take more than two GPUs of 80 GB have.
_base_ = '../schedules/adamw_grounding.py'
from castkd.architectures import FOUNDATION_FEATURE, FOUNDATION_LAYERS

recomputed = FOUNDATION_LAYERS
contrast = dict(
    feature=FOUNDATION_FEATURE,
    queries=dict(type='castkd.BoxQueries'),
    projector=dict(type='castkd.ProjectionHead', in_channels=1536),
)
