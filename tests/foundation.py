"""A foundation teacher of random weights, with a tokenizer, that runs in milliseconds; nothing is downloaded."""

CLASSES = ('car', 'person')
WORDS = ('car', 'person', 'motor', '##cycle', 'cycle', 'red', 'van', 'automobile', 'human')


def make_tokenizer(folder):
    """Write a BERT tokenizer of a few words into ``folder`` and return its path as text."""
    from transformers import BertTokenizer

    # Grounding DINO knows these marks by the indices they have in BERT's own vocabulary.
    marks = {
        0: '[PAD]',
        100: '[UNK]',
        101: '[CLS]',
        102: '[SEP]',
        103: '[MASK]',
        1012: '.',
        1029: '?',
    }
    names = [marks.get(index, f'[unused{index}]') for index in range(1030)] + list(WORDS)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'vocab.txt').write_text('\n'.join(names) + '\n')
    vocab = {name: index for index, name in enumerate(names)}
    BertTokenizer(vocab=vocab, do_lower_case=True).save_pretrained(folder)
    return str(folder)


def detector_config(model_type='grounding-dino', **options):
    return {
        'model_type': model_type,
        'backbone_config': {
            'model_type': 'swin',
            'image_size': 64,
            'embed_dim': 8,
            'depths': [1, 1, 1, 1],
            'num_heads': [1, 1, 2, 2],
            'window_size': 2,
            'out_indices': [2, 3, 4],
        },
        'text_config': {
            'model_type': 'bert',
            'vocab_size': 1030 + len(WORDS),
            'hidden_size': 16,
            'num_hidden_layers': 1,
            'num_attention_heads': 2,
            'intermediate_size': 16,
            'max_position_embeddings': 64,
        },
        'd_model': 32,
        'num_queries': 10,
        'encoder_layers': 1,
        'decoder_layers': 2,
        'encoder_ffn_dim': 16,
        'decoder_ffn_dim': 16,
        'encoder_attention_heads': 2,
        'decoder_attention_heads': 2,
        'max_text_len': 32,
        **options,
    }


def segmenter_config():
    return {
        'vision_config': {
            'backbone_config': {
                'model_type': 'sam2_hiera_det_model',
                'image_size': [64, 64],
                'hidden_size': 8,
                'blocks_per_stage': [1, 1, 1, 1],
                'embed_dim_per_stage': [8, 16, 32, 64],
                'num_attention_heads_per_stage': [1, 1, 2, 2],
                'window_size_per_stage': [4, 2, 2, 2],
                'window_positional_embedding_background_size': [2, 2],
                'global_attention_blocks': [],
            },
            'backbone_channel_list': [64, 32, 16, 8],
            'backbone_feature_sizes': [[16, 16], [8, 8], [4, 4]],
            'fpn_hidden_size': 32,
        },
        'prompt_encoder_config': {'hidden_size': 32, 'image_size': 64, 'patch_size': 16},
        'mask_decoder_config': {
            'hidden_size': 32,
            'mlp_dim': 16,
            'num_attention_heads': 2,
            'iou_head_hidden_dim': 8,
        },
    }


def tiny_foundation(tokenizer, classes=CLASSES, **detector):
    """Return the config of the network; ``tokenizer`` is what :func:`make_tokenizer` returned."""
    return {
        'type': 'castkd.FoundationSegmentor',
        'data_preprocessor': {
            'type': 'mmdet.DetDataPreprocessor',
            'mean': [123.675, 116.28, 103.53],
            'std': [58.395, 57.12, 57.375],
            'bgr_to_rgb': True,
            'pad_mask': True,
        },
        'detector': {
            'type': 'castkd.GroundingDINO',
            'classes': classes,
            'config': detector.pop('config', detector_config()),
            'tokenizer': tokenizer,
            'score_thr': 0.0,
            **detector,
        },
        'segmenter': {'type': 'castkd.SAM2', 'config': segmenter_config(), 'boxes_per_run': 3},
    }


def make_text_encoder(folder):
    """Write a small BERT with its tokenizer into ``folder``, as mmdet reads it, and return its path as text."""
    from transformers import BertConfig, BertModel

    options = dict(detector_config()['text_config'])
    options.pop('model_type')
    BertModel(BertConfig(**options), add_pooling_layer=False).save_pretrained(folder)
    return make_tokenizer(folder)


def mmdet_detector_config(text_encoder, max_text_len=32):
    """Return the config of mmdet's Grounding DINO; ``text_encoder`` is what :func:`make_text_encoder` returned."""
    # mmdet's code knows no other width.
    width = 256
    attention = {'embed_dims': width, 'num_heads': 2, 'dropout': 0.0}
    feed_forward = {'embed_dims': width, 'feedforward_channels': 16, 'ffn_drop': 0.0}
    return {
        'type': 'GroundingDINO',
        'num_queries': 10,
        'with_box_refine': True,
        'as_two_stage': True,
        'language_model': {
            'type': 'BertModel',
            'name': text_encoder,
            'max_tokens': max_text_len,
            'pad_to_max': False,
            'use_sub_sentence_represent': True,
            'special_tokens_list': ['[CLS]', '[SEP]', '.', '?'],
            'add_pooling_layer': False,
        },
        'backbone': {
            'type': 'SwinTransformer',
            'pretrain_img_size': 64,
            'embed_dims': 8,
            'depths': [1, 1, 1, 1],
            'num_heads': [1, 1, 2, 2],
            'window_size': 2,
            'out_indices': (1, 2, 3),
            'drop_path_rate': 0.0,
        },
        'neck': {
            'type': 'ChannelMapper',
            'in_channels': [16, 32, 64],
            'kernel_size': 1,
            'out_channels': width,
            'act_cfg': None,
            'bias': True,
            'norm_cfg': {'type': 'GN', 'num_groups': 4},
            'num_outs': 4,
        },
        'encoder': {
            'num_layers': 1,
            'num_cp': 1,
            'layer_cfg': {
                'self_attn_cfg': {'embed_dims': width, 'num_levels': 4, 'dropout': 0.0},
                'ffn_cfg': feed_forward,
            },
            'text_layer_cfg': {'self_attn_cfg': attention, 'ffn_cfg': feed_forward},
            'fusion_layer_cfg': {
                'v_dim': width,
                'l_dim': width,
                'embed_dim': 32,
                'num_heads': 2,
                'init_values': 1e-4,
            },
        },
        'decoder': {
            'num_layers': 2,
            'return_intermediate': True,
            'layer_cfg': {
                'self_attn_cfg': attention,
                'cross_attn_text_cfg': attention,
                'cross_attn_cfg': attention,
                'ffn_cfg': feed_forward,
            },
            'post_norm_cfg': None,
        },
        'positional_encoding': {
            'num_feats': width // 2,
            'normalize': True,
            'offset': 0.0,
            'temperature': 20,
        },
        'bbox_head': {
            'type': 'GroundingDINOHead',
            'num_classes': 256,
            'sync_cls_avg_factor': True,
            'contrastive_cfg': {'max_text_len': max_text_len, 'log_scale': 'auto', 'bias': True},
            'loss_cls': {
                'type': 'FocalLoss',
                'use_sigmoid': True,
                'gamma': 2.0,
                'alpha': 0.25,
                'loss_weight': 1.0,
            },
            'loss_bbox': {'type': 'L1Loss', 'loss_weight': 5.0},
        },
        'dn_cfg': {
            'label_noise_scale': 0.5,
            'box_noise_scale': 1.0,
            'group_cfg': {'dynamic': True, 'num_groups': None, 'num_dn_queries': 8},
        },
        'train_cfg': {
            'assigner': {
                'type': 'HungarianAssigner',
                'match_costs': [
                    {'type': 'BinaryFocalLossCost', 'weight': 2.0},
                    {'type': 'BBoxL1Cost', 'weight': 5.0, 'box_format': 'xywh'},
                    {'type': 'IoUCost', 'iou_mode': 'giou', 'weight': 2.0},
                ],
            }
        },
        'test_cfg': {'max_per_img': 10},
    }


def tiny_mmdet_foundation(text_encoder, classes=CLASSES, max_text_len=32, **detector):
    """Return the config of a network whose detector is mmdet's."""
    network = tiny_foundation(text_encoder, classes)
    network['detector'] = {
        'type': 'castkd.MMDetGroundingDINO',
        'classes': classes,
        'config': mmdet_detector_config(text_encoder, max_text_len),
        'score_thr': 0.0,
        **detector,
    }
    return network


def adapted(student, feature):
    """Return the config of stage 1c: losses on labels and pseudo-labels, and the contrast of a feature.

    Args:
        student: Config of the foundation model that is adapted.
        feature: Tap of its image feature, of 64 channels.
    """
    return {
        'type': 'castkd.Distiller',
        'student': student,
        'classes': CLASSES,
        'objectives': {
            'sup': {'type': 'castkd.Supervised'},
            'unsup': {'type': 'castkd.PseudoLabel', 'view': 'unsup_teacher'},
            'cast': {
                'type': 'castkd.InstanceContrast',
                'feature': feature,
                'queries': {'type': 'castkd.BoxQueries', 'num_queries': 5, 'size': (16, 16)},
                'projector': {
                    'type': 'castkd.ProjectionHead',
                    'in_channels': 64,
                    'hidden_channels': 8,
                    'out_channels': 8,
                },
                'loss': {'type': 'castkd.InstancePixelContrast', 'num_negatives': 8},
            },
        },
    }


def check_gradients(model):
    """Check that every weight that is trained has a finite gradient."""
    for name, value in model.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, name
            assert value.grad.isfinite().all(), name
