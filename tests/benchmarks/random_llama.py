"""A Llama of any shape with random weights, created on its device, and a tokenizer of as many words. Nothing is downloaded.

Speed and memory depend on shapes only. The output of such a model has no meaning. The model ends no text, because no token is
an end token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from taskdiv_assets.language_model.loading import LanguageModel, choose_attention, choose_dtype
from taskdiv_assets.language_model.quiet import quiet


class Shape(NamedTuple):
    """The widths of a Llama without shared keys."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    vocabulary: int
    context: int


LLAMA_2_7B = Shape(4_096, 11_008, 32, 32, 32_000, 4_096)
END = "<end>"
WIDE_VOCABULARY = Shape(64, 176, 2, 4, 32_000, 512)
MINIATURE = Shape(64, 192, 2, 4, 512, 512)  # on a CPU, 4 bits want widths that blocks of 64 fill


def build(shape: Shape, device: str, seed: int = 0) -> LanguageModel:
    """Return the model on the device, in the number format that the scorer would choose there."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    place = torch.device(device)
    dtype = choose_dtype(device=place).dtype
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.context,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    attention = choose_attention(dtype, place).attention
    torch.manual_seed(seed)
    with place:
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation=attention)
    return LanguageModel(model.eval(), _tokenizer(shape.vocabulary), place, dtype)


def save(lm: LanguageModel, folder: Path) -> None:
    """Save the model for training, in the format of `loading.load`. The last word of the tokenizer becomes the end token."""
    with quiet():
        lm.model.save_pretrained(folder)
    _tokenizer(lm.model.config.vocab_size, has_end=True).save_pretrained(folder)


def _tokenizer(words_n: int, *, has_end: bool = False) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{index}": index for index in range(words_n - has_end)} | ({END: words_n - 1} if has_end else {})
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = {"eos_token": END} if has_end else {}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", padding_side="left", **ends)


def random_prompts(lengths: Sequence[int], vocabulary_n: int, seed: int = 0) -> list[str]:
    """Return prompts with these numbers of tokens."""
    random = np.random.default_rng(seed)
    return [" ".join(f"w{index}" for index in random.integers(1, vocabulary_n, length)) for length in lengths]
