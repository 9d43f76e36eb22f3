# What data sets of label maps share, as semi_supervised.py is for instances: a training pipeline
# reads an image once, changes it once (resize, crop, mirror), and then makes views that share their
# pixel grid. Names: sup of labelled images, unsup_teacher (weak) and unsup_student (strong) of the
# others.
_base_ = 'loaders.py'

branch_field = ['sup', 'unsup_teacher', 'unsup_student']
pack = dict(
    type='mmseg.PackSegInputs',
    meta_keys=(
        'img_path',
        'seg_map_path',
        'ori_shape',
        'img_shape',
        'pad_shape',
        'scale_factor',
        'flip',
        'flip_direction',
        'reduce_zero_label',
        'homography_matrix',
    ),
)

load_image = [dict(type='castkd.LoadImage')]
labeled_views = [dict(type='mmdet.MultiBranch', branch_field=branch_field, sup=[pack])]
# The same for images without labels and for those whose labels a teacher made beforehand.
unlabeled_views = [
    dict(
        type='mmdet.MultiBranch',
        branch_field=branch_field,
        unsup_teacher=[pack],
        unsup_student=[dict(type='castkd.StrongPhotometric'), pack],
    ),
]

# Sources, data sets and folders come from the file of a data set.
train_dataloader = dict(
    batch_sampler=dict(counts=dict(labeled=4, unlabeled=4)),
    dataset=dict(split=dict(fraction=0.125, seed=0)),
)
