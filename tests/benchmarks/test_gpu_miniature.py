"""`make bench-gpu` in miniature on a CPU: every part runs, none of it is called a measurement, running out is survived."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import gpu, gpu_page, gpu_scoring, gpu_speed, scorers
from tests.benchmarks.random_llama import MINIATURE, build


def run(output: Path) -> str:
    assert gpu.main(["--miniature", "--output", str(output), "--price", "3"]) == 0
    return output.read_text(encoding="utf-8")


@pytest.mark.full
def test_every_part_is_on_the_page_which_says_that_it_measured_nothing(tmp_path: Path) -> None:
    text = run(tmp_path / "GPU.md")
    assert gpu_page.MINIATURE in text
    assert "Not measured" not in text and "not measured" not in text and "## What failed" not in text
    for side in ("ours", "`generate(output_logits=True)`", "continuous batching", "other companions", "15,011", "3.00"):
        assert side in text


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
    text = run(tmp_path / "GPU.md")
    assert "| 4 | out of memory |" in text and "| 3 | out of memory |" in text
    assert "Largest batch that fits: 2." in text
    assert "| other companions |" in text


def test_a_part_that_fails_is_named_and_the_others_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def broken(*args):
        raise ValueError("no such kernel")

    def out_of_memory(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(gpu_speed, "measure_rates", broken)
    for way in ("generate", "generate_recording", "continuous"):
        monkeypatch.setattr(scorers, way, out_of_memory)
    monkeypatch.setattr(gpu_scoring, "drifts", broken)
    output = tmp_path / "GPU.md"
    assert gpu.main(["--miniature", "--output", str(output)]) == 1
    text = output.read_text(encoding="utf-8")
    assert "- rates: ValueError: no such kernel" in text and "- other companions: ValueError" in text
    assert "| share of the bound, in the better regime | ≥ 60% | not measured | **no** |" in text
    assert "order given | out of memory |" in text and "fewer columns | out of memory |" in text
    assert "| ours |" in text and "| the same, sorted by length | 0" in text


def test_without_a_card_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "run", lambda *args: pytest.fail("measured without a card"))
    assert gpu.main([]) == 1


def test_bounds_count_what_is_written_out() -> None:
    lm = build(MINIATURE, "cpu")
    inner = 2 * (4 * 64 * 64 + 3 * 64 * 176)  # two layers of attention and MLP
    head, norms = 64 * 512, 5 * 64
    assert gpu_speed.prefill_operations(lm, 3, 10) == 2 * 3 * (inner * 10 + head)
    assert gpu_speed.step_bytes(lm, 3, 10) == 4 * (inner + head + norms + 3 * 10 * 2 * 2 * 64)


def test_lengths_are_dolly_s() -> None:
    lengths = gpu_scoring.dolly_lengths(1000, 4000)
    assert sorted(lengths)[500] == pytest.approx(26, abs=1) and lengths.max() == 1040 and lengths.min() >= 9
    assert list(lengths) != sorted(lengths)
    assert gpu_scoring.dolly_lengths(1000, 100).max() == 100
