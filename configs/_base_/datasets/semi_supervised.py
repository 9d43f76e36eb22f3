# What all data sets share: the pieces of their pipelines, and how a step draws its images. A
# training pipeline reads an image once, changes it once (resize, crop, flip; colours where a data
# set asks for it), and then makes views that share their pixel grid: the weak one as it is, the
# strong one with its colours changed further. Names: sup and sup_strong of labelled images,
# unsup_teacher (weak) and unsup_student (strong) of the others.
_base_ = 'loaders.py'

branch_field = ['sup', 'sup_strong', 'unsup_teacher', 'unsup_student']
pack = dict(
    type='mmdet.PackDetInputs',
    meta_keys=(
        'img_id',
        'img_path',
        'ori_shape',
        'img_shape',
        'scale_factor',
        'flip',
        'flip_direction',
        'homography_matrix',
    ),
)
strong_view = [dict(type='castkd.StrongPhotometric'), pack]

load_image = [dict(type='castkd.LoadImage')]
load_labels = [dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True)]
load_labeled = load_image + load_labels
load_unlabeled = [*load_image, dict(type='mmdet.LoadEmptyAnnotations', with_mask=True)]

# keep_empty=False keeps an image that lost all its objects (mmdet names it the other way round).
drop_lost_objects = dict(
    type='mmdet.FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), by_mask=True, keep_empty=False
)
labeled_views = [
    drop_lost_objects,
    dict(type='mmdet.MultiBranch', branch_field=branch_field, sup=[pack], sup_strong=strong_view),
]
# The same for images without labels and for those whose labels a teacher made beforehand.
unlabeled_views = [
    drop_lost_objects,
    dict(
        type='mmdet.MultiBranch',
        branch_field=branch_field,
        unsup_teacher=[pack],
        unsup_student=strong_view,
    ),
]

# Sources, data sets and annotation files come from the file of a data set.
train_dataloader = dict(
    batch_sampler=dict(counts=dict(labeled=2, unlabeled=6)),
    dataset=dict(split=dict(fraction=0.1, seed=0)),
)
