"""A tiny Llama in a GGUF file as llama.cpp's converter writes it, and the same model in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

LAYERS_N, HEADS_N, GROUPS_N, HIDDEN_N, INNER_N = 2, 4, 2, 64, 96
MERGES = ["t h", "th e", "Ġ th", "Ġ a", "i n"]
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


class Tiny(NamedTuple):
    """The model as the GGUF file unpacks, its tokenizer, and the file."""

    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    path: Path


def write_tiny(path: Path, *, is_tied: bool = False, **changes: Any) -> Tiny:
    """Write a GGUF file with a random Llama. `changes` replace or add keys of its metadata, with `__` in place of a dot."""
    torch.manual_seed(5)
    tokens = _tokens()
    config = LlamaConfig(
        vocab_size=len(tokens), hidden_size=HIDDEN_N, intermediate_size=INNER_N, num_hidden_layers=LAYERS_N,
        num_attention_heads=HEADS_N, num_key_value_heads=GROUPS_N, max_position_embeddings=128, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 5000.0}, tie_word_embeddings=is_tied,
        bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    writer = gguf.GGUFWriter(path, "llama")
    _write_metadata(writer, tokens, changes)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            values = weight.normal_(0, 0.3).numpy() if weight.ndim == 2 else (weight.normal_(1, 0.1)).numpy()
            if weight.ndim == 1:
                writer.add_tensor(_named(name), values.copy())
                continue
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            kept = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
            weight.copy_(torch.from_numpy(kept))
            if "q_proj" in name or "k_proj" in name:  # llama.cpp turns pairs of rows, whole rows of blocks
                packed = _permuted(packed, HEADS_N if "q_proj" in name else GROUPS_N)
            writer.add_tensor(_named(name), packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return Tiny(model, _tokenizer(tokens), path)


def _tokens() -> list[str]:
    letters = [*bytes_to_unicode().values()]
    return [*letters, *(merge.replace(" ", "") for merge in MERGES), "<s>", "</s>"]


def _tokenizer(tokens: list[str]) -> PreTrainedTokenizerFast:
    vocabulary = {token: place for place, token in enumerate(tokens)}
    backend = Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in MERGES]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")


def _write_metadata(writer: gguf.GGUFWriter, tokens: list[str], changes: dict[str, Any]) -> None:
    given = {
        "llama.context_length": 128, "llama.embedding_length": HIDDEN_N, "llama.block_count": LAYERS_N,
        "llama.feed_forward_length": INNER_N, "llama.attention.head_count": HEADS_N,
        "llama.attention.head_count_kv": GROUPS_N, "llama.rope.dimension_count": HIDDEN_N // HEADS_N,
        "llama.rope.freq_base": 5000.0, "llama.attention.layer_norm_rms_epsilon": 1e-6, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.bos_token_id": len(tokens) - 2, "tokenizer.ggml.eos_token_id": len(tokens) - 1,
        "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.token_type": [*[1] * (len(tokens) - 2), 3, 3],
    }  # fmt: skip
    for key, value in (given | {key.replace("__", "."): value for key, value in changes.items()}).items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        if value is not None:
            add.get(type(value), writer.add_array)(key, value)


def _named(name: str) -> str:
    part, kind = name.rsplit(".", 1)
    if not part.startswith("model.layers."):
        return f"{NAMES[part]}.{kind}"
    _, _, layer, inner = part.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def _permuted(rows: np.ndarray, heads_n: int) -> np.ndarray:
    """Permute as llama.cpp's `LlamaModel.permute`: it rotates neighbouring entries, transformers rotates halves."""
    return rows.reshape(heads_n, 2, rows.shape[0] // heads_n // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
