"""Random models of every family with a tokenizer of characters, and lm-eval's own loop as a second computation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.language_model.quiet import quiet_harness
from tests.language_model.test_architectures import VOCABULARY, config_of

CONTEXT = 128
SPECIAL = ["<pad>", "<s>", "</s>", "<end>", "<unk>"]
LONGER = ["\n\n", "ab", "日本"]  # a model may write them; the tokenizer itself always takes character by character
CHARACTERS = "\n aäbcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?()+-*/=<>é日本語ßñ"
PIECES = [*SPECIAL, *LONGER, *dict.fromkeys(CHARACTERS)][:VOCABULARY]


def save_tokenizer(folder: Path) -> None:
    """Save a tokenizer with one token for each character and BOS before every text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {piece: index for index, piece in enumerate([*PIECES, *(f"<{i}>" for i in range(len(PIECES), VOCABULARY))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<end>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def load_family(family: str, folder: Path, *, scale: float = 3.0, **generation: Any) -> LanguageModel:
    """Save a random model of one family and load it as a user's model. `generation` changes its generation configuration."""
    return load_config(config_of(family), folder, scale=scale, **generation)


def load_config(config: Any, folder: Path, *, scale: float = 3.0, **generation: Any) -> LanguageModel:
    """Save a random model of a configuration and load it as a user's model."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    with quiet_harness():
        model = AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for weights in model.parameters():
                if weights.ndim > 1:
                    weights.mul_(scale)  # so that probabilities are not all alike
        model.generation_config.update(**generation)
        model.save_pretrained(folder)
        save_tokenizer(folder)
        return load(folder, dtype="float32", attention="sdpa")


def harness(lm: LanguageModel, batch_size: int = 4) -> Any:
    """Return lm-eval's own class for the model."""
    import copy

    from lm_eval.models.huggingface import HFLM

    with quiet_harness(), warnings.catch_warnings():
        return HFLM(pretrained=lm.model, tokenizer=copy.deepcopy(lm.tokenizer), batch_size=batch_size)


def log_likelihoods(lm: LanguageModel, asked: Any) -> list[tuple[float, bool]]:
    """Return the results of lm-eval's loop for contexts and answers in tokens."""
    requests = [(("", ""), list(one.context), list(one.answer)) for one in asked]
    with quiet_harness():
        found: list[tuple[float, bool]] = harness(lm)._loglikelihood_tokens(requests, disable_tqdm=True)
    return found
