# TransKD on Cityscapes, SegFormer-B2 to B0, the protocol of the published code: 512 x 1024, mIoU at a
# quarter of that; one GPU, 371 000 iterations of 8 images a stage:
#   python tools/train.py configs/transkd/transkd_segformer_cityscapes_paper.py
# Published mIoU: teacher 76.49, student 55.86, Base 68.58, GL 68.87, EA 68.98.
_base_ = '../_base_/recipes/transkd.py'

folder = 'cityscapes_paper'
