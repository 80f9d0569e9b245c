"""Full memory tells nothing about a model: no answer about the model is remembered, and no other cause is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from taskdiv_assets.language_model import tuning as tuning_package
from taskdiv_assets.language_model.alone import why_not_causal, why_not_continued
from taskdiv_assets.language_model.confidence import Scorer
from taskdiv_assets.language_model.continuation import Wanted, WritingPlan
from taskdiv_assets.language_model.counted import COUNTS, EVERYTHING, Counted, counted_padding
from taskdiv_assets.language_model.faults import explained, ran_out
from taskdiv_assets.language_model.loading import LanguageModel
from taskdiv_assets.language_model.memory import machine_bytes
from taskdiv_assets.language_model.tuning import Base, FullMemoryError, try_out, tune
from taskdiv_assets.language_model.tuning.targets import GROUPED, lora_targets
from taskdiv_assets.tuning_settings import Tuning
from tests.language_model.test_padding_and_switches import forgetful, made, text
from tests.language_model.test_trainable import EXAMPLES, SMALL, folder_of

FULL = [
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
]

TUNING = Tuning(epochs=1, learning_rate=1e-3)


def failing(lm: LanguageModel, error: Exception) -> Callable[..., Any]:
    """Make the model raise `error` in each pass, and return its original `forward`."""
    inner: Callable[..., Any] = lm.model.forward

    def forward(input_ids: Any = None, past_key_values: Any = None, **rest: Any) -> Any:
        raise error

    lm.model.forward = forward
    return inner


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("ask", [why_not_continued, counted_padding, why_not_causal])
def test_full_memory_is_raised_and_the_next_answer_is_the_right_one(ask: Callable[..., object], error: Exception):
    lm = made("llama")
    inner = failing(lm, error)
    with pytest.raises(type(error)) as raised:
        ask(lm)
    assert ran_out(raised.value)
    lm.model.forward = inner
    assert not any(ask(lm) or ())


def test_a_model_that_could_not_be_asked_is_read_with_every_care_and_asked_again():
    lm = made("llama")
    inner = failing(lm, KeyError("of an architecture"))
    assert counted_padding(lm) == EVERYTHING == Counted(True, True, True)
    lm.model.forward = inner
    assert counted_padding(lm) == Counted()


def test_an_error_of_any_kind_for_padding_counts_as_padding_that_is_counted():
    lm = made("llama")
    inner: Callable[..., Any] = lm.model.forward

    def forward(input_ids: Any = None, past_key_values: Any = None, **rest: Any) -> Any:
        if len(input_ids) > 1:
            raise NotImplementedError("several rows")
        return inner(input_ids=input_ids, past_key_values=past_key_values, **rest)

    lm.model.forward = forward
    assert counted_padding(lm).right


def test_numbers_that_are_not_finite_are_no_property_of_reading():
    lm = made("llama")
    weights = lm.model.get_output_embeddings().weight
    before = weights.detach().clone()
    with torch.no_grad():
        weights.fill_(float("nan"))
    assert why_not_causal(lm) == why_not_continued(lm) == "", "the error that speaks is that of the scores"
    assert counted_padding(lm) == EVERYTHING
    with pytest.raises(ValueError, match="finite"):
        list(Scorer(lm, [text(5)], max_new_tokens=2).run())
    with torch.no_grad():
        weights.copy_(before)
    assert counted_padding(lm) == Counted()


def test_a_context_of_one_token_is_asked_without_an_error():
    assert why_not_causal(made("llama"), 1) == ""


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_full_memory_is_no_damaged_file(error: Exception, tmp_path: Path):
    with pytest.raises(type(error)), explained(tmp_path, "the model", "copy its folder again"):
        raise error


class Strange(torch.nn.Linear):
    """A layer of an architecture that raises `error` for any states."""

    __module__ = "transformers.models.strange"
    error: Exception = NotImplementedError("grouped")

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        raise self.error


def test_a_layer_that_raises_anything_is_left_out_of_the_adapter_but_for_full_memory():
    model = made("llama").model
    model.model.layers[0].mlp.up_proj = Strange(32, 48)
    assert GROUPED in lora_targets(model, 0.0).left_out
    model.model.layers[0].mlp.up_proj.error = FULL[0]
    with pytest.raises(RuntimeError, match="allocate memory"):
        lora_targets(model, 0.0)


def test_a_training_without_memory_is_not_called_impossible(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    base = Base(folder_of(transformers.LlamaConfig, SMALL, tmp_path), "float32", "sdpa")

    def full(*_: object, **__: object) -> None:
        raise FULL[0]

    monkeypatch.setattr("taskdiv_assets.language_model.tuning.trainer._FUSED", {})
    monkeypatch.setattr("taskdiv_assets.language_model.tuning.trainer.why_not_fused", full)
    with pytest.raises(FullMemoryError, match=r"ran out of memory .*allocate memory.*lower `tuning.pass_tokens`"):
        tune(base, EXAMPLES, TUNING, seed=0, out=tmp_path)
    assert "ran out of memory" in try_out(base, TUNING), "a reason not to try, and no failure"


def test_a_model_larger_than_the_memory_of_the_container_is_not_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    base = Base(folder_of(transformers.LlamaConfig, SMALL, tmp_path), "float32", "sdpa")
    monkeypatch.setattr(tuning_package, "free_bytes", lambda device: 1000)
    assert "are free" in try_out(base, TUNING)


@pytest.mark.parametrize(
    ("limit", "use", "stat"),
    [
        ("memory.max", "memory.current", "anon 5\ninactive_file 300"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "inactive_file 1\ntotal_inactive_file 300"),
    ],
)
def test_free_memory_is_what_the_container_leaves(limit: str, use: str, stat: str, tmp_path: Path):
    free_n = machine_bytes(tmp_path)
    assert free_n > 10_000, "of the machine, without control groups"
    folder = (tmp_path / limit).parent
    folder.mkdir(exist_ok=True)
    (tmp_path / limit).write_text("5000\n")
    (tmp_path / use).write_text("4000\n")
    (folder / "memory.stat").write_text(stat)
    assert machine_bytes(tmp_path) == 5000 - 4000 + 300
    (tmp_path / limit).write_text("max\n")
    assert machine_bytes(tmp_path) > 10_000


def test_padding_that_counts_unexpectedly_is_logged_once():
    said: list[str] = []
    list(Scorer(forgetful(), [text(5), text(9)], max_new_tokens=2, log=said.append).run())
    assert len(said) == 1 and "padding (gap, left)" in said[0]
    said.clear()
    list(Scorer(made("mpt"), [text(5)], max_new_tokens=2, log=said.append).run())
    assert not said and COUNTS["mpt"].gap, "known of its type"


def test_texts_that_are_read_again_for_each_token_are_logged(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("taskdiv_assets.language_model.continuation.why_not_continued", lambda lm: "it keeps no cache")
    said: list[str] = []
    WritingPlan(made("llama"), [Wanted((3, 4, 5), (), 2)], said.append)
    assert len(said) == 1 and "it keeps no cache" in said[0]
