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
