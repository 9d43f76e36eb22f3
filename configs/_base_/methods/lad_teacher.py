# LAD stage 1: a label-assisted network, the teacher of stage 2, learns on two paths, each with the
# labels noised anew. A config adds the network as student (castkd.LabelAssistedSegmentor; of OCRNet,
# castkd.LabelAssistedCascadeSegmentor and the tap decode_head.1.conv_seg).
model = dict(
    type='castkd.Distiller',
    objectives=dict(
        path1=dict(type='castkd.Supervised', view='sup'),
        path2=dict(type='castkd.Supervised', view='sup#2'),
        dual=dict(
            type='castkd.DualPath',
            views=('sup', 'sup#2'),
            tap='decode_head.conv_seg',
            loss=dict(type='castkd.DualPathConsistency', tau=4.0),
            weight=5.0,
        ),
    ),
)
