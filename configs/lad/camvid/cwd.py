# As LAD's stage 2, but from a teacher that reads no labels: the student itself, trained on the labels alone.
_base_ = './student.py'

model = dict(
    teachers=dict(
        twin=dict(
            _delete_=True,
            type='castkd.FrozenTeacher',
            model=_base_.network,
            checkpoint='work_dirs/lad_camvid/supervised/iter_1000.pth',
        )
    )
)
