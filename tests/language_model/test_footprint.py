"""Predicted memory: published sizes, tensors that a model really keeps, and batches that become smaller where memory is short."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taskdiv_assets.language_model import footprint, memory
from taskdiv_assets.language_model.confidence import score
from taskdiv_assets.language_model.embeddings import embed
from taskdiv_assets.language_model.footprint import Memory, fitting_tokens, shape_of, without_weights
from taskdiv_assets.language_model.likelihood import Asked, LikelihoodPlan
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.tuning_settings import Tuning
from tests.evidence.sizing import GIB, MODELS
from tests.language_model.test_padding_and_switches import made, text

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LORA = Tuning(learning_rate=1e-4, epochs=1, rank=64, max_length=2048, pass_tokens=2048)
BIG = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
LLAMA = transformers.LlamaConfig(vocab_size=32_000, intermediate_size=11_008, **BIG)
GROUPED = {"num_key_value_heads": 8, "intermediate_size": 14_336}
# Configurations with the numbers of parameters that their authors state.
PUBLISHED = {
    "llama-2-7b": (LLAMA, 6_738_415_616),
    "mistral-7b": (transformers.MistralConfig(vocab_size=32_000, **GROUPED, **BIG), 7_241_732_096),
    "qwen2.5-7b": (
        transformers.Qwen2Config(
            vocab_size=152_064, hidden_size=3584, intermediate_size=18_944, num_hidden_layers=28, num_attention_heads=28,
            num_key_value_heads=4,
        ),
        7_615_616_512,
    ),
    "gemma-3-270m": (
        transformers.Gemma3TextConfig(
            vocab_size=262_144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
            num_key_value_heads=1, head_dim=256,
        ),
        268_098_176,
    ),
    "pythia-6.9b": (
        transformers.GPTNeoXConfig(vocab_size=50_432, intermediate_size=16_384, **BIG), 6_857_302_016,
    ),
    "gpt2": (transformers.GPT2Config(), 124_439_808),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_configuration_alone_gives_the_published_size_and_a_sane_memory(name: str) -> None:
    config, parameters_n = PUBLISHED[name]
    lm = without_weights(config, "bfloat16", GPU)
    shape = shape_of(lm.model)
    assert shape.parameters_n == parameters_n
    weights_n = 2 * parameters_n
    for found in (footprint.embedding(lm, 500), footprint.continuing(lm, 500, 1000, 128), footprint.writing(lm, 1500)):
        assert found.weights_n == weights_n and 0 < found.batch_n < 100 * GIB
    trained = footprint.training(lm, LORA, 2048)
    assert weights_n < trained.total_n < weights_n + 25 * GIB
    in_4_bits = footprint.training(lm, LORA.model_copy(update={"quantization": "nf4"}), 2048)
    full = footprint.training(lm, LORA.model_copy(update={"method": "full"}), 2048)
    assert in_4_bits.total_n < trained.total_n < full.total_n and full.total_n > 16 * parameters_n
    again = footprint.training(lm, LORA, 2048, is_recomputed=True)
    assert again.batch_n < trained.batch_n / 2


def test_keys_values_and_adapters_are_those_of_the_sizing_of_an_experiment() -> None:
    shape, theirs = shape_of(without_weights(LLAMA, "bfloat16", GPU).model), MODELS["Llama-2-7B"]
    assert (2 * shape.kept_n, 64 * shape.adapted_n) == (theirs.kv_token_bytes, theirs.lora_n(64))
    assert shape.weights_n == theirs.multiplied_n


class Live(TorchDispatchMode):
    """Sum of the bytes of tensors that were made inside the block and are still referenced, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now_n = self.peak_n = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        for one in tree_leaves(result):
            if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in given | self.known:
                self._add(one.untyped_storage())
        return result

    def _add(self, storage: Any) -> None:
        key, bytes_n = storage._cdata, storage.nbytes()

        def forget() -> None:
            self.known.discard(key)
            self.now_n -= bytes_n

        self.known.add(key)
        self.now_n += bytes_n
        self.peak_n = max(self.peak_n, self.now_n)
        weakref.finalize(storage, forget)


WIDE = {"vocab_size": 64, "num_hidden_layers": 3}
DENSE = {
    "llama": transformers.LlamaConfig(hidden_size=256, intermediate_size=688, num_attention_heads=4, **WIDE),
    "qwen2": transformers.Qwen2Config(
        hidden_size=256, intermediate_size=1408, num_attention_heads=4, num_key_value_heads=2, **WIDE
    ),
    "gemma3": transformers.Gemma3TextConfig(
        hidden_size=160, intermediate_size=512, num_attention_heads=4, num_key_value_heads=1, head_dim=64, **WIDE
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_predicted_activations_are_the_tensors_that_a_model_keeps(name: str) -> None:
    from peft import LoraConfig, get_peft_model

    model = transformers.AutoModelForCausalLM.from_config(DENSE[name], attn_implementation="sdpa").eval()
    lm = LanguageModel(model, None, CPU, "float32")  # type: ignore[arg-type]
    ids = torch.randint(60, (4, 64))
    for has_cache in (False, True):
        with torch.inference_mode(), Live() as live:
            kept = model.base_model(input_ids=ids, use_cache=has_cache)
        predicted = ids.numel() * footprint.token_bytes(lm, has_cache=has_cache)
        assert predicted == pytest.approx(live.peak_n, rel=0.3)
        del kept
    predicted = footprint.training_bytes(lm, ids.numel())
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")).train()
    with Live() as live:
        adapted.base_model.model.base_model(input_ids=ids, use_cache=False).last_hidden_state.sum().backward()
    assert predicted == pytest.approx(live.peak_n, rel=0.3)


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave one process a megabyte."""
    monkeypatch.setattr(footprint, "free_bytes", lambda device: 10**6)


def test_a_batch_that_fits_stays_and_a_larger_one_gets_the_tokens_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted = Memory(10**9, 10**9, 0, 8 * 10**6, 8_000)
    monkeypatch.setattr(footprint, "free_bytes", lambda device: 10**7)
    assert fitting_tokens(predicted, CPU) is None
    monkeypatch.setattr(footprint, "free_bytes", lambda device: 10**6)
    assert fitting_tokens(predicted, CPU) == 800
    monkeypatch.setattr(footprint, "free_bytes", lambda device: 0)
    assert fitting_tokens(predicted, CPU) == 1
    assert memory.free_bytes(CPU) > 10**7


def test_where_memory_is_short_batches_are_smaller_and_numbers_the_same(
    scarce: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, prompts, told = made("llama"), [text(size) for size in (5, 9, 9, 17, 23)] * 20, []
    few = score(lm, prompts, max_new_tokens=3, log=told.append), embed(lm, prompts), *_likelihoods(lm)
    assert told and told[0].startswith("cpu has little free memory: a batch has at most ")
    monkeypatch.undo()
    many = score(lm, prompts, max_new_tokens=3), embed(lm, prompts), *_likelihoods(lm)
    for name, values in many[0].columns.items():
        np.testing.assert_allclose(few[0].columns[name], values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(few[1].astype(np.float32), many[1].astype(np.float32), atol=2e-3)
    np.testing.assert_allclose(few[2], many[2], rtol=1e-5)


def _likelihoods(lm: LanguageModel) -> list[list[float]]:
    asked = [Asked(tuple(range(2, size)), (1, 2)) for size in (8, 12, 20)] * 10
    found = sorted(
        (int(at), float(nats)) for one in LikelihoodPlan(lm, asked).run() for at, nats in zip(*one[:2], strict=True)
    )
    return [[nats for _, nats in found]]


def test_batches_do_not_change_on_this_machine() -> None:
    lm = made("llama")
    for found in (footprint.embedding(lm, 30), footprint.continuing(lm, 30, 100, 16), footprint.weighing(lm, 30, 4)):
        assert fitting_tokens(found, lm.device) is None
