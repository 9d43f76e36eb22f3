# Cityscapes with PVTv2-B2 and -B0 and a semantic feature pyramid, in the protocol "mmseg".
_base_ = '../cityscapes/base.py'

from castkd.architectures import pvt_v2_fpn

weights = 'https://github.com/whai362/PVT/releases/download/v2/'
student = pvt_v2_fpn(19, slide=1024, pretrained=weights + 'pvt_v2_b0.pth')
student['_delete_'] = True
teacher = pvt_v2_fpn(
    19,
    embed_dims=64,
    depths=(3, 4, 6, 3),
    slide=1024,
    pretrained=weights + 'pvt_v2_b2.pth',
)
teacher['_delete_'] = True
teacher_file = 'work_dirs/transkd_pvt_cityscapes/teacher/iter_160000.pth'
