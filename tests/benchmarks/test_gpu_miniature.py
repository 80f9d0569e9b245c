"""`make bench-gpu` with small sizes on a CPU: each part runs, nothing counts as a measurement, and lack of memory is handled."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from taskdiv_assets.language_model.loading import load
from taskdiv_assets.language_model.tuning import IGNORED, encode
from tests.benchmarks import gpu, gpu_page, gpu_scoring, gpu_speed, gpu_tuning, scorers
from tests.benchmarks.random_llama import MINIATURE, build, save


def run(output: Path) -> str:
    assert gpu.main(["--miniature", "--output", str(output), "--price", "3"]) == 0
    return output.read_text(encoding="utf-8")


def out_of_memory(*args: object, **options: object) -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.full
def test_every_part_is_on_the_page_which_says_that_it_measured_nothing(tmp_path: Path) -> None:
    text = run(tmp_path / "GPU.md")
    assert gpu_page.MINIATURE in text
    assert "Not measured" not in text and "## What failed" not in text
    assert ("not measured" in text) == ("needs bitsandbytes" in text) == (find_spec("bitsandbytes") is None)
    for side in ("ours", "`generate(output_logits=True)`", "continuous batching", "other companions", "15,011", "3.00"):
        assert side in text
    for training in ("float32, Dolly's lengths, packed", "float32, 64 tokens each", "nf4, Dolly's lengths, packed"):
        assert f"| LoRA over {training} | " in text


def test_memory_that_ends_ends_the_larger_batches_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    real = gpu_speed.measured

    def measured(lm, rates, rows_n, *sizes):
        if rows_n >= 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(lm, rates, rows_n, *sizes)

    monkeypatch.setattr(gpu_speed, "measured", measured)
    monkeypatch.setattr(gpu_scoring, "end_to_end", lambda *args, **options: [])
    monkeypatch.setattr(gpu_scoring, "drifts", lambda *args: [gpu_scoring.Drift("other companions", 0.0, 0.0, 1.0)])
    monkeypatch.setattr(gpu_tuning, "trained", out_of_memory)
    text = run(tmp_path / "GPU.md")
    assert "| 4 | out of memory |" in text and "| 3 | out of memory |" in text
    assert "Largest batch that fits: 2." in text
    assert "| other companions |" in text
    assert text.count(" | out of memory |  |  |  |  |  |") == 4  # trainings
    assert "in LoRA training, the least of all | ≥ 40% | not measured | **no** |" in text


def test_a_part_that_fails_is_named_and_the_others_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args):
        raise ValueError("no such kernel")

    monkeypatch.setattr(gpu_speed, "measure_rates", broken)
    for way in ("generate", "generate_recording", "continuous"):
        monkeypatch.setattr(scorers, way, out_of_memory)
    monkeypatch.setattr(gpu_scoring, "drifts", broken)
    monkeypatch.setattr(gpu_tuning, "trained", broken)
    output = tmp_path / "GPU.md"
    assert gpu.main(["--miniature", "--output", str(output)]) == 1
    text = output.read_text(encoding="utf-8")
    assert "- rates: ValueError: no such kernel" in text and "- other companions: ValueError" in text
    assert "| share of the bound, in the better regime | ≥ 60% | not measured | **no** |" in text
    assert "order given | out of memory |" in text and "fewer columns | out of memory |" in text
    assert "Dolly's lengths, packed | no such kernel |" in text
    assert "| ours |" in text and re.search(r"\| the same, sorted by length \| [\d.]+ \|", text)


def test_without_a_card_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "run", lambda *args: pytest.fail("measured without a card"))
    assert gpu.main([]) == 1


def test_bounds_count_what_is_written_out() -> None:
    lm = build(MINIATURE, "cpu")
    inner = 2 * (4 * 64 * 64 + 3 * 64 * 192)  # two layers of attention and MLP
    head, norms = 64 * 512, 5 * 64
    assert gpu_speed.prefill_operations(lm, 3, 10) == 2 * 3 * (inner * 10 + head)
    assert gpu_speed.step_bytes(lm, 3, 10) == 4 * (inner + head + norms + 3 * 10 * 2 * 2 * 64)


def test_lengths_are_dolly_s() -> None:
    lengths = gpu_scoring.dolly_lengths(1000, 4000)
    assert sorted(lengths)[500] == pytest.approx(26, abs=1) and lengths.max() == 1040 and lengths.min() >= 9
    assert list(lengths) != sorted(lengths)
    assert gpu_scoring.dolly_lengths(1000, 100).max() == 100


class TestTraining:
    def test_tokens_are_as_many_as_asked_for(self, tmp_path: Path) -> None:
        lm = build(MINIATURE, "cpu")
        save(lm, tmp_path)
        stored = load(tmp_path, dtype="float32", attention="sdpa")
        lengths = [9, 30, 64, 3]
        rows, learnt_share = gpu_tuning.examples(lengths, MINIATURE.vocabulary)
        encoded = [encode(stored, row, 512) for row in rows]
        assert [len(row.input_ids) for row in encoded] == lengths
        assert all(row.input_ids[-1] == MINIATURE.vocabulary - 1 for row in encoded)
        learnt_n = sum(label != IGNORED for row in encoded for label in row.labels)
        assert learnt_share == pytest.approx(learnt_n / sum(lengths))

    def test_the_bound_counts_what_peft_trains_and_what_it_leaves(self) -> None:
        from peft import LoraConfig, get_peft_model

        model = build(MINIATURE, "cpu").model
        head = model.lm_head.weight.numel()
        frozen = sum(weight.numel() for weight in model.model.layers.parameters() if weight.dim() > 1)
        peft = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        added = sum(weight.numel() for weight in peft.parameters() if weight.requires_grad)
        needed = gpu_tuning.operations(MINIATURE, 4, 0.5, is_again=False)
        assert needed == 4 * frozen + 4 * 0.5 * head + 6 * added
        assert gpu_tuning.operations(MINIATURE, 4, 0.5, is_again=True) == needed + 2 * (frozen + added)

    def test_a_miniature_trains(self, tmp_path: Path) -> None:
        save(build(MINIATURE, "cpu"), tmp_path)
        work = gpu_tuning.Work(long_n=32, batch_size=2, steps_n=4, rank=2)
        found = list(gpu_tuning.trainings(tmp_path, MINIATURE, "float32", "sdpa", 1e9, work))
        assert [it.what.split()[2] for it in found] == ["float32,", "float32,", "nf4,", "nf4,"]
        packed, full, *four_bits = found
        for it in (packed, full):
            assert it.tokens_s and it.peak_gib and it.share == it.worked_share and not it.problem
        assert packed.choices.startswith("packed rows") and full.choices.startswith("one example a row")
        for it in four_bits:
            assert it.tokens_s or "needs bitsandbytes" in it.problem
