# Cityscapes with PVTv2-B2 and -B0 and a semantic feature pyramid, in the protocol "paper".
_base_ = '../cityscapes_paper/base.py'

from castkd.architectures import pvt_v2_fpn

student = pvt_v2_fpn(**_base_.common)
student['_delete_'] = True
teacher = pvt_v2_fpn(
    embed_dims=64,
    depths=(3, 4, 6, 3),
    pretrained='https://github.com/whai362/PVT/releases/download/v2/pvt_v2_b2.pth',
    **_base_.common,
)
teacher['_delete_'] = True
teacher_file = 'work_dirs/transkd_pvt_cityscapes_paper/teacher/iter_371000.pth'
