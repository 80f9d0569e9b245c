"""Tiny random models of every family of causal language models in transformers.

A configuration starts with the family's own defaults. `SIZES` reduces each of the family's settings, and `EXTRAS` has further
settings of a family, mostly one layer of each of its kinds. Windows are shorter than most prompts of the tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 320
CONTEXT = 128
WINDOW = 8

# By the name of a setting, whatever the family.
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1,
    "decoder_vocab_size": VOCABULARY, "unpadded_vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY,
    "forced_eos_token_id": None, "sep_token_id": 2, "cls_token_id": 1,
    # widths
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "emb_dim": 32, "embedding_size": 32, "word_embed_proj_dim": 32,
    "intermediate_size": 48, "ffn_dim": 48, "decoder_ffn_dim": 48, "encoder_ffn_dim": 48, "n_inner": 48, "d_inner": 48, "dff": 48,
    "ffn_hidden_size": 48, "dim_ff": 48, "feed_forward_size": 48, "expert_ffn_hidden_size": 16, "intermediate_size_mlp": 48,
    "dense_intermediate_size": 48, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16, "shared_experts_intermediate_size": 16, "moe_shared_expert_intermediate_size": 16,
    "head_dim": 8, "swa_head_dim": 8, "d_head": 8, "dim_head": 8, "attention_head_size": 8, "kv_channels": 8, "rotary_dim": 4,
    "input_embedding_size": 16, "output_embedding_size": 24, "embedding_dim": 32, "hidden_size_per_layer_input": 8,
    "attention_hidden_size": 32, "lru_width": 32, "router_hidden_size": 16, "query_pre_attn_scalar": 8,
    # depth and heads
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2, "encoder_layers": 2,
    "num_decoder_layers": 2, "num_encoder_layers": 1, "num_blocks": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "decoder_attention_heads": 4,
    "encoder_attention_heads": 4, "attention_heads": 4, "num_decoder_attention_heads": 4, "num_encoder_attention_heads": 4,
    "num_key_value_heads": 2, "num_kv_heads": 2, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2,
    # low ranks
    "q_lora_rank": 16, "kv_lora_rank": 16, "o_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8,
    "qk_head_dim": 8, "index_n_heads": 32, "index_head_dim": 16, "index_topk": 24, "laurel_rank": 4, "adapter_rank": 4,
    "gated_norm_rank": 4, "hc_lowrank": 4, "o_groups": 2,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "num_experts_per_token": 2, "moe_topk": 2, "moe_k": 2, "n_group": 1, "topk_group": 1, "num_expert_group": 1,
    "first_k_dense_replace": 1, "num_dense_layers": 1, "moe_layer_start_index": 0, "moe_layer_end_index": 1,
    "moe_num_shared_experts": 1, "zero_expert_num": 2, "num_nextn_predict_layers": 0,
    # states
    "mamba_d_state": 8, "mamba_d_head": 16, "mamba_n_heads": 4, "mamba_chunk_size": 8, "mamba_dt_rank": 4, "mamba_d_ssm": 64,
    "mamba_headdim": 16, "mamba_num_heads": 4, "mamba_head_dim": 16, "n_mamba_heads": 2, "ssm_state_size": 8, "state_size": 8,
    "time_step_rank": 4, "chunk_size": 8, "linear_num_heads": 2, "linear_head_dim": 8, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    # context and windows
    "max_position_embeddings": CONTEXT, "n_positions": CONTEXT, "n_ctx": CONTEXT, "max_seq_len": CONTEXT, "context_length": CONTEXT,
    "model_max_length": CONTEXT, "max_target_positions": CONTEXT, "max_source_positions": CONTEXT,
    "original_max_position_embeddings": CONTEXT,
    "sliding_window": WINDOW, "sliding_window_size": WINDOW, "attention_window_size": WINDOW, "window_size": WINDOW,
    "local_attention": WINDOW, "attention_chunk_size": WINDOW, "floor_scale": WINDOW, "rel_extent": CONTEXT,
    "log_scaling_n_floor": WINDOW, "keep_window_size": WINDOW, "max_window_layers": 0,
    # towers for images and sound
    "image_size": 28, "mm_tokens_per_image": 4, "depth": 1, "out_hidden_size": 32, "encoder_hash_byte_group_vocab": 64,
}  # fmt: skip

# fmt: off
MIXED = ["sliding_attention", "full_attention"]
LINEAR = ["linear_attention", "full_attention"]
DECODER = {"is_decoder": True}
LATENT = {"num_key_value_heads": 4}  # keys and values of latent attention come from one state for all heads
GEMMA_4 = {"layer_types": MIXED, "global_head_dim": 16, "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0}
MIXES_WINDOWS = (
    "afmoe", "cohere2", "cohere2_moe", "exaone4", "exaone_moe", "flint", "gemma3_text", "kolibri1", "laguna", "mellum", "olmo3",
)
MIXES_STATES = (
    "bailing_hybrid", "granitemoehybrid", "olmo_hybrid", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next",
)
ENCODERS = (
    "bert", "bert-generation", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert", "roberta",
    "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl",
)
EXTRAS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(ENCODERS, DECODER),
    **{key: {"layer_types": MIXED} for key in MIXES_WINDOWS},
    **{key: {"layer_types": LINEAR} for key in MIXES_STATES},
    **{key: {"layer_types": MIXED, "use_sliding_window": True} for key in ("qwen2", "qwen3", "qwen2_moe")},
    **dict.fromkeys(("axk2", "deepseek_v2", "deepseek_v32", "glm_moe_dsa", "minicpm3", "glm4_moe_lite", "hy_v4"), LATENT),
    **{key: {**LATENT, "head_dim": 4} for key in ("axk1", "deepseek_v3", "longcat_flash", "youtu")},
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), GEMMA_4),
    **{key: {"vision_config": None, "audio_config": None} for key in ("gemma4", "gemma4_unified")},
    "bamba": {"attn_layer_indices": [1]},
    "big_bird": {**DECODER, "attention_type": "original_full"},  # all that a decoder may have
    "cohere_compass_text": {
        "layer_types": MIXED, "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4} for kind in MIXED},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {
        "layer_types": ["heavily_compressed_attention", "compressed_sparse_attention"], "num_key_value_heads": 1,
        "compress_rates": {"heavily_compressed_attention": 8, "compressed_sparse_attention": 4},
    },
    "dots1": {
        "layer_types": MIXED, "use_sliding_window": True, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
    },
    "dots3_note_text": {
        **LATENT, "layer_types": ["indexed_attention", "sliding_attention"], "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16, "swa_head_dim": 8, "swa_qk_nope_head_dim": 4,
        "swa_v_head_dim": 8,
    },
    "gemma3n_text": {"layer_types": MIXED * 2, "num_hidden_layers": 4, "num_kv_shared_layers": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "inkling_text": {"layer_types": ["hybrid_sliding", "hybrid"], "mlp_layer_types": ["dense", "sparse"]},
    "inkling2_text": {"layer_types": ["hybrid_sliding", "hybrid"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {**LATENT, "layer_types": LINEAR},
    "lfm2": {"layer_types": ["conv", "full_attention"], "full_attn_idxs": None},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lfm3": {"layer_types": ["conv", "full_attention", "sliding_attention"], "num_hidden_layers": 3},
    "llama4_text": {"layer_types": ["chunked_attention", "full_attention"], "no_rope_layers": [1, 0]},
    "mamba2": {"head_dim": 16, "n_groups": 2},
    "minimax_m3_vl_text": {
        "index_n_heads": 2, "index_block_size": 4, "index_topk_blocks": 2, "layer_types": ["full_attention", "minimax_m3_sparse"],
    },
    "moshi": {"sliding_window": CONTEXT},  # as its released form has it: the window is the context
    "nemotron_h": {"layers_block_type": ["linear_attention", "full_attention", "moe", "mlp"], "n_groups": 2},
    "prophetnet": {"num_buckets": 8, "relative_max_distance": 16},
    "qwen4_exp_text": {
        "layer_types": ["linear_attention", "indexed_attention"], "indexer_n_heads": 2, "indexer_kv_heads": 1,
        "indexer_head_dim": 8, "indexer_budget": 8, "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {
        **DECODER, "attn_layers": ["local", "lsh"], "axial_pos_shape": [8, 16], "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8, "num_buckets": 4,
    },
    "roc_bert": {
        **DECODER, "pronunciation_vocab_size": 16, "shape_vocab_size": 16, "pronunciation_embed_dim": 8, "shape_embed_dim": 8,
    },
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},  # it rounds widths up to multiples of 64
    "xmod": {**DECODER, "default_language": "en_XX"},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3, "attention_hidden_size": 64,
        "attention_head_dim": 16, "num_key_value_heads": 4,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "num_hidden_layers": 3, "num_key_value_heads": 4,
        "n_mamba_heads": 4, "attention_hidden_size": 64, "attention_head_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1, "layer_types": ["hybrid_sliding", "hybrid"]},
}
# fmt: on
NO_FORM = (
    "its model for texts is another family, which is tested; its models for images and sound have no tiny form here"
)
NOT_MADE = {
    "blt": "reads bytes in patches of a second model; has no tiny form here",
    "dots3_note": NO_FORM,
    "emu3": NO_FORM,
    "gemma3n": "needs the library timm",
    "gemma4_assistant": "drafts tokens for another model; not a model by itself",
    "gemma4_unified_assistant": "drafts tokens for another model; not a model by itself",
    "mllama": NO_FORM,
    "musicgen": "writes sound",
    "musicgen_melody": "writes sound",
    "phi4_multimodal": NO_FORM,
}
FAMILIES = sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(NOT_MADE))


def config_of(family: str) -> Any:
    """Return a tiny configuration of one family. Families that read images also get tiny towers."""
    kind = CONFIG_MAPPING[family]
    parts = {}
    for name, spec in getattr(kind, "sub_configs_defaults", {}).items():
        part = spec.model_type or spec.config_class.model_type
        known = CONFIG_MAPPING[part] if part in CONFIG_MAPPING else spec.config_class  # noqa: SIM401  its `get` finds nothing
        parts[name] = {"model_type": part, **_shrunk(known()), **EXTRAS.get(part, {})}
    return kind(**{**_shrunk(kind()), **parts, **EXTRAS.get(family, {})})


def _shrunk(config: Any) -> dict[str, Any]:
    own = config.to_dict()
    return {name: value for name, value in SIZES.items() if name in own}


def save(family: str, folder: Path) -> Path:
    """Save a random model of one family, whose logits differ, with a small tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config_of(family)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "A_log" not in name:
                weight.mul_(3.0)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """Save a tokenizer of bytes and a few merged pairs. It puts <s> before every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = ["Q: red A: apple banana blue yellow long What is it? Name a fruit"] * 3
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<unk>", "<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
