# CAST with the foundation teacher: its schedule, and what is contrasted, the last map of its detector's image backbone
# with boxes for masks.
_base_ = '../schedules/adamw_grounding.py'
from castkd.architectures import FOUNDATION_FEATURE

contrast = dict(
    feature=FOUNDATION_FEATURE,
    queries=dict(type='castkd.BoxQueries'),
    projector=dict(type='castkd.ProjectionHead', in_channels=1536),
)
