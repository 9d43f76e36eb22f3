"""Tiny detectors that many tests share."""

from castkd.architectures import atss, faster_rcnn, fcos, gfl, mask_rcnn, retinanet

#: Builders of detectors, and what makes each small beside the sizes of :func:`tiny_detector`.
DETECTORS = {
    'retinanet': (retinanet, dict(stacked_convs=1)),
    'fcos': (fcos, dict(stacked_convs=1)),
    'atss': (atss, dict(stacked_convs=1)),
    'gfl': (gfl, dict(stacked_convs=1)),
    'faster_rcnn': (faster_rcnn, dict(fc_channels=32)),
    'mask_rcnn': (mask_rcnn, dict(fc_channels=32, mask_convs=1)),
}


def tiny_detector(name='retinanet', num_classes=2, **options):
    """Return the config of a detector for images of 64 x 64 that runs in milliseconds."""
    build, sizes = DETECTORS[name]
    sizes = {**dict(depth=18, base_channels=8, channels=16), **sizes}
    return build(num_classes, **{**sizes, **options})
