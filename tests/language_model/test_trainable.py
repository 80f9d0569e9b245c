"""Architectures on which training once failed, or learnt nothing without a warning: the reported loss is the model's own.

The models are tiny and random. Each case was a fault: a layer between backbone and head, routers, experts, state-space layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from taskdiv_assets.language_model.embeddings import dimensions, embed
from taskdiv_assets.language_model.loading import LanguageModel, load
from taskdiv_assets.language_model.tuning import Base, Example, TuningResult, encode, tune
from taskdiv_assets.tuning_settings import Tuning
from tests.language_model.characters import save_tokenizer
from tests.language_model.test_architectures import VOCABULARY

EXAMPLES = [
    Example(f"p{i}", prompt, answer)
    for i, (prompt, answer) in enumerate([("red:", "apple"), ("long:", "banana"), ("sky:", "blue")])
]
SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
EXPERTS = {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
STATES = {
    "head_dim": 8, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8,
    "mamba_chunk_size": 8, "num_key_value_heads": 2,
}  # fmt: skip


def folder_of(
    config: type[transformers.PreTrainedConfig], settings: dict[str, Any], folder: Path, scale: float = 1.5
) -> Path:
    """Save a model with weights so large that its loss differs from that of guessing."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_config(config(vocab_size=VOCABULARY, **settings)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(scale)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def trained(folder: Path, out: Path, **settings: Any) -> TuningResult:
    out.mkdir()
    tuning = Tuning(**{"learning_rate": 1e-2, "epochs": 8, "batch_size": 3, **settings})
    return tune(Base(folder, "float32", "sdpa"), EXAMPLES, tuning, seed=0, out=out)


def loss_of(model: Any, lm: LanguageModel) -> float:
    """Return the loss of the answers in nats per token, one example at a time, from the model's own logits."""
    total = n = 0.0
    for example in (encode(lm, one, 128) for one in EXAMPLES):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].log_softmax(-1)
        labels = torch.tensor(example.labels[1:])
        kept = labels != -100
        total -= float(logits[kept].gather(-1, labels[kept][:, None]).sum())
        n += int(kept.sum())
    return total / n


CASES = {
    "a layer between backbone and head": (transformers.ModernBertDecoderConfig, SMALL, {}),
    "experts with dropout": (
        transformers.MixtralConfig,
        {**SMALL, "num_key_value_heads": 2, "num_local_experts": 4},
        {"dropout": 0.1},
    ),
    "Granite's experts": (transformers.GraniteMoeConfig, EXPERTS, {}),
    "routers that return two tensors": (transformers.PhimoeConfig, EXPERTS, {}),
    "states beside attention": (transformers.FalconH1Config, {**SMALL, **STATES}, {}),
    "soft caps": (
        transformers.Gemma2Config,
        {**SMALL, "num_key_value_heads": 2, "head_dim": 8, "final_logit_softcapping": 5.0},
        {},
    ),
}


SELDOM = ("Granite's experts", "routers that return two tensors")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.full] if case in SELDOM else []) for case in CASES]
)
def test_the_loss_that_is_reported_is_the_models_own_before_and_after(tmp_path: Path, case: str) -> None:
    from peft import PeftModel

    config, settings, tuning = CASES[case]
    folder = folder_of(config, settings, tmp_path / "model")
    lm = load(folder, dtype="float32", attention="sdpa")
    result = trained(folder, tmp_path / "adapter", **tuning)
    before = loss_of(lm.model, lm)
    if not tuning:  # dropout changes what a step sees
        assert result.losses[0] == pytest.approx(before, rel=1e-3)
    after = loss_of(PeftModel.from_pretrained(lm.model, str(tmp_path / "adapter")).eval(), lm)
    assert after < before - 0.05, "the adapter changes what the model says"


def test_what_is_left_out_of_an_adapter_is_noted_with_its_reason(tmp_path: Path) -> None:
    said = {}
    for case in ("experts with dropout", "routers that return two tensors", "states beside attention"):
        config, settings, tuning = CASES[case]
        folder = folder_of(config, settings, tmp_path / case)
        said[case] = trained(folder, tmp_path / f"{case} adapter", epochs=1, **tuning).choices[
            "left out of the adapter"
        ]
    assert "experts" in said["experts with dropout"] and "use `dropout: 0`" in said["experts with dropout"]
    assert said["routers that return two tensors"] == "router (a router, which returns more than one tensor)"
    assert "state-space" in said["states beside attention"]


def test_a_model_that_needs_nothing_left_out_says_nothing_and_uses_the_fused_loss(tmp_path: Path) -> None:
    result = trained(folder_of(transformers.LlamaConfig, SMALL, tmp_path / "model"), tmp_path / "adapter", epochs=1)
    assert not {"left out of the adapter", "loss"} & set(result.choices)


def test_why_the_loss_is_not_the_fused_one_is_noted(tmp_path: Path) -> None:
    config, settings, _ = CASES["a layer between backbone and head"]
    result = trained(folder_of(config, settings, tmp_path / "model"), tmp_path / "adapter", epochs=1)
    assert "from the model's own logits, since TRL's fused head gives" in result.choices["loss"]


def test_a_whole_model_is_saved_whatever_its_generation_configuration_says(tmp_path: Path) -> None:
    """Vicuna's has a temperature without `do_sample`: transformers reads it, and refuses to write it."""
    folder = folder_of(transformers.LlamaConfig, SMALL, tmp_path / "model")
    text = '{"temperature": 0.9, "top_p": 0.6, "eos_token_id": 2}'
    (folder / "generation_config.json").write_text(text)
    trained(folder, tmp_path / "tuned", method="full", epochs=1)
    assert (tmp_path / "tuned" / "generation_config.json").read_text() == text


def test_an_embedding_is_as_wide_as_what_the_head_reads(tmp_path: Path) -> None:
    """OPT-350m projects its last state down."""
    settings = {
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
    }
    lm = load(
        folder_of(transformers.OPTConfig, {**settings, "word_embed_proj_dim": 16}, tmp_path / "model"),
        dtype="float32",
        attention="sdpa",
    )
    assert dimensions(lm) == 16
    vectors = embed(lm, ["red:", "a longer one:"]).astype(np.float64)
    assert vectors.shape == (2, 16) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
