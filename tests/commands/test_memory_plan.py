"""The lines of `taskdiv plan` about memory, from a configuration alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import transformers

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands import memory_plan
from taskdiv_assets.commands.memory_plan import MemoryPlan, StageMemory, TextBytes, text_bytes
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.storage.store import Store
from tests.language_model.test_sentence_embedder import write_static

GB = 10**9
EVERYTHING = {"prompt_embeddings", "confidence_table", "adapter", "benchmark_scores"}
LLAMA = transformers.LlamaConfig(
    vocab_size=32_000, hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32,
    max_position_embeddings=4096, dtype="bfloat16",
)  # fmt: skip


def planned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_n: int, config: Any = LLAMA, missing: set[str] = EVERYTHING
) -> MemoryPlan:
    """Return the plan of `dolly`, whose base is a model of 7B on the hub, on a machine with `free_n` bytes free."""
    experiment = experiment_file.load("dolly")
    monkeypatch.setattr("taskdiv_assets.language_model.memory.free_bytes", lambda device: free_n)
    monkeypatch.setattr(memory_plan, "_from_hub", lambda repository, revision: config.to_json_string().encode())
    lineage = REGISTRY.look(experiment, Store("dolly", str(tmp_path)))
    found = memory_plan.memory_plan(experiment, lineage, missing, TextBytes(20_000, 24_000))
    assert found is not None
    return found


def test_a_model_of_7b_has_a_line_for_each_stage_from_its_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = planned(monkeypatch, tmp_path, 900 * GB).lines()
    named = [line.partition(":")[0] for line in lines]
    assert named == [f"memory of {name}" for name in ("embedding", "confidence", "tuning", "scoring")] + ["memory"]
    sizes = [float(line.split("about ")[1].split(" GB")[0]) for line in lines[:-1]]
    assert all(27 < size < 250 for size in sizes), "6.7B parameters in float32, as on a CPU"
    assert "fit side by side (`--workers`)" in lines[-1]


def test_views_of_found_tasks_have_their_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The template keeps the hidden states of all layers. A sentence embedder needs its weights, here 40 numbers."""
    (plain,) = planned(monkeypatch, tmp_path, 900 * GB, missing={"prompt_embeddings"}).stages
    (layered,) = planned(monkeypatch, tmp_path, 900 * GB, missing={"template_embeddings"}).stages
    assert layered.name == plain.name == "embedding"
    states_n = (32 + 1) * 4096 * 4  # bytes of a token
    assert layered.total_n - plain.total_n > 4096 * states_n
    folder = write_static(tmp_path / "static")
    text = f"task_labels: {{from: discovered, view: {{sentence_embedder: {{path: {folder}}}}}}}"
    rest = "name: own\npool: {reader: lab}\nstrategies: [task_diversity]\nbudgets: [8]\n"
    experiment = experiment_file.parse(f"{rest}{text}\n", str(tmp_path / "own.yaml"))
    lineage = REGISTRY.look(experiment, Store("own", str(tmp_path)))
    found = memory_plan.memory_plan(experiment, lineage, {"sentence_embeddings"}, None)
    assert found is not None
    assert found.stages == (StageMemory("sentence embedding", 600_000_160, 600_000_160),)
    (folder / "modules.json").unlink()  # the run says what is wrong
    assert memory_plan.memory_plan(experiment, lineage, {"sentence_embeddings"}, None) is None


def test_what_does_not_fit_is_a_warning_with_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = planned(monkeypatch, tmp_path, 20 * GB).lines()
    warnings = [line for line in lines if line.startswith("warning: ")]
    assert len(warnings) == 4 and not any("side by side" in line for line in lines)
    assert "tuning needs about " in warnings[2] and "20.0 GB are free; lower `tuning.pass_tokens`" in warnings[2]


def test_batches_that_can_be_cut_are_no_reason_to_warn() -> None:
    found = MemoryPlan((StageMemory("scoring", 30 * GB, 16 * GB),), 20 * GB)
    assert found.lines() == [
        "memory of scoring: about 30.0 GB a process",
        "memory: 20.0 GB are free, so 1 process fits side by side (`--workers`)",
    ]


def test_without_a_configuration_the_reason_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Broken:
        def to_json_string(self) -> str:
            return "{}"

    lines = planned(monkeypatch, tmp_path, GB, Broken()).lines()
    assert len(lines) == 1 and lines[0].startswith("memory: not predicted, because ")


def test_the_lab_has_no_lines_and_texts_are_measured_in_bytes(tmp_path: Path) -> None:
    lab = experiment_file.load("demo")
    lineage = REGISTRY.look(lab, Store("demo", str(tmp_path)))
    assert memory_plan.memory_plan(lab, lineage, EVERYTHING, None) is None
    assert text_bytes(pa.chunked_array([["ab", "é"]]), pa.chunked_array([["c", None]], pa.string())) == (2, 3)
