"""Families whose numbers were once wrong without a warning, or which failed with a library's error.

Each is now right or rejected in one sentence. The models are tiny and random, one of each kind.
tests/full/test_architectures.py tries every family of transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from taskdiv_assets.language_model.alone import why_not_continued
from taskdiv_assets.language_model.batching import Group, as_batch
from taskdiv_assets.language_model.confidence import score
from taskdiv_assets.language_model.continuation import Wanted, WritingPlan
from taskdiv_assets.language_model.decoding import Decoding
from taskdiv_assets.language_model.embeddings import dimensions, embed
from taskdiv_assets.language_model.loading import LanguageModel, context_tokens
from taskdiv_assets.language_model.tuning import Base, try_out
from taskdiv_assets.language_model.tuning.targets import lora_targets
from taskdiv_assets.language_model.tuning.trainer import why_not_trained
from taskdiv_assets.tuning_settings import Tuning
from tests.language_model.characters import load_config
from tests.language_model.test_architectures import SIZE, VOCABULARY
from tests.language_model.test_trainable import SMALL, folder_of

DECODER = {**SIZE, "is_decoder": True}
STATES = {
    **SIZE,
    "num_key_value_heads": 2,
    "layer_types": ["conv", "full_attention"],
    "block_auto_adjust_ff_dim": False,
}
TUNING = Tuning(learning_rate=1e-2, epochs=1)


def tokens(*lengths: int) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(5, VOCABULARY, length).tolist() for length in lengths]


def next_alone(lm: LanguageModel, text: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = lm.model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
    return logits


def test_an_encoder_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    """transformers loads BERT as a causal model and says in a log that it reads both ways."""
    with pytest.raises(ValueError, match="BertLMHeadModel is not a causal language model as configured: what follows"):
        load_config(transformers.BertConfig(**SIZE), tmp_path)
    assert load_config(transformers.BertConfig(**DECODER), tmp_path).tokenizer


def test_a_model_whose_positions_are_not_ours_is_not_continued(tmp_path: Path) -> None:
    lm = load_config(transformers.RobertaConfig(**DECODER), tmp_path)
    with pytest.raises(
        ValueError, match="RobertaForCausalLM cannot continue prompts here: .* other numbers than .*; use another"
    ):
        score(lm, ["ab", "abcdef" * 4], max_new_tokens=3)
    columns = score(lm, ["abcd", "abcdef" * 4], max_new_tokens=3, of="prompt").columns
    ids = lm.tokenizer("abcd")["input_ids"]
    nats = [float(next_alone(lm, ids[:n]).log_softmax(-1)[ids[n]]) for n in range(1, len(ids))]
    assert columns["sequence_log_probability"][0] == pytest.approx(sum(nats), abs=1e-4)


def test_a_model_that_counts_padding_as_positions_is_scored_as_for_a_text_alone(tmp_path: Path) -> None:
    settings = {**DECODER, "d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48}
    lm = load_config(transformers.TrOCRConfig(**settings), tmp_path)
    prompts = ["ab", "abcdef" * 4]
    columns = score(lm, prompts, max_new_tokens=3).columns
    for row, prompt in enumerate(prompts):
        ids, nats = lm.tokenizer(prompt)["input_ids"], []
        for _ in range(int(columns["generated_n"][row])):
            log_probabilities = next_alone(lm, ids).log_softmax(-1)
            nats.append(float(log_probabilities.max()))
            ids = [*ids, int(log_probabilities.argmax())]
        assert columns["sequence_log_probability"][row] == pytest.approx(sum(nats), abs=1e-4)


def test_texts_of_such_a_model_are_written_one_at_a_time(tmp_path: Path) -> None:
    lm = load_config(transformers.RobertaConfig(**DECODER), tmp_path)
    texts = tokens(4, 23)
    plan = WritingPlan(lm, [Wanted(tuple(text), (), 5) for text in texts])
    found = {place: text for one in plan.run() for place, text in zip(one.positions, one.texts, strict=True)}
    for place, text in enumerate(texts):
        ids = list(text)
        while len(ids) < len(text) + 5 and ids[-1] != lm.tokenizer.eos_token_id:
            ids.append(int(next_alone(lm, ids).argmax()))
        assert found[place] == lm.tokenizer.decode(ids[len(text) :], skip_special_tokens=True)


def test_a_model_that_keeps_states_beside_attention_may_drop_rows(tmp_path: Path) -> None:
    """LFM2's states stayed as they were when rows left the batch: an error of a library, after the first short answer."""
    lm = load_config(transformers.Lfm2Config(**STATES), tmp_path)
    assert not why_not_continued(lm)
    texts = tokens(5, 9, 12)
    decoding = Decoding(lm, as_batch(lm, texts, Group(np.arange(3), 12, True), 3), 3)
    with torch.inference_mode():
        decoding.next_logits()
        chosen = torch.tensor([7, 8, 9])
        decoding.go_on(chosen, torch.tensor([0, 2]))
        found = decoding.next_logits()
    expected = torch.stack([next_alone(lm, [*texts[row], int(chosen[row])]) for row in (0, 2)])
    assert torch.allclose(found, expected, atol=1e-4)


def test_falcons_own_linear_layers_get_an_adapter(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(transformers.FalconConfig(**SIZE))
    assert lora_targets(model, 0.0) == ("all-linear", "")


def test_a_model_with_experts_of_which_none_are_used_can_be_trained(tmp_path: Path) -> None:
    """Its configuration names a loss that balances experts, which TRL would ask for."""
    settings = {**SMALL, "num_key_value_heads": 2, "is_moe": False}
    base = Base(folder_of(transformers.DogeConfig, settings, tmp_path), "float32", "sdpa")
    assert try_out(base, TUNING) == "", "it was tried"


def test_what_cannot_be_trained_is_said_in_one_sentence_before_anything_is_bought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = Base(folder_of(transformers.LlamaConfig, SMALL, tmp_path), "float32", "sdpa")

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise IndexError("tuple index out of range")

    assert try_out(base, TUNING) == "", "it was tried"
    monkeypatch.setattr("taskdiv_assets.language_model.tuning.trainer._FUSED", {})
    monkeypatch.setattr("taskdiv_assets.language_model.tuning.trainer.completion_loss", forward)
    with pytest.raises(
        ValueError, match=r"LlamaForCausalLM cannot be trained here \(IndexError: tuple index out of range\); use"
    ):
        try_out(base, TUNING)


def test_weights_without_a_gradient_are_no_training() -> None:
    model = AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SIZE))
    unused = torch.nn.Parameter(torch.ones(2))
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, 7]])}
    assert why_not_trained(model, inputs, [unused], is_fused=False) == "nothing that is trained changes its loss"
    assert not why_not_trained(model, inputs, list(model.parameters()), is_fused=False)
    assert all(weight.grad is None for weight in model.parameters())


def test_the_context_is_as_long_as_the_table_of_positions(tmp_path: Path) -> None:
    """RoBERTa's positions begin after its padding token; Whisper names its context otherwise."""
    roberta = load_config(transformers.RobertaConfig(**{**DECODER, "pad_token_id": 1}), tmp_path / "roberta")
    assert context_tokens(roberta) == SIZE["max_position_embeddings"] - 2
    next_alone(roberta, tokens(context_tokens(roberta) or 0)[0])
    layers = {"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48, "encoder_layers": 1}
    whisper = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "pad_token_id": 0,
        "max_target_positions": 40,
        "encoder_attention_heads": 4,
        **layers,
    }
    assert context_tokens(load_config(transformers.WhisperConfig(**whisper), tmp_path / "whisper")) == 40


def test_an_embedding_is_the_last_state_whatever_the_head_reads(tmp_path: Path) -> None:
    """RemBERT narrows its states before the head; Llama 4's backbone has another name than it says."""
    settings = {**DECODER, "input_embedding_size": 16, "output_embedding_size": 24}
    lm = load_config(transformers.RemBertConfig(**settings), tmp_path / "rembert")
    assert embed(lm, ["abc"]).shape == (1, dimensions(lm)) == (1, 32)
    llama4 = {**SIZE, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size_mlp": 48, "num_local_experts": 2}
    lm = load_config(transformers.Llama4TextConfig(**llama4), tmp_path / "llama4")
    assert embed(lm, ["abc"]).shape == (1, 32)
