"""`python -m tests.benchmarks`: each part against what one would write or use otherwise, in one run, as ratios.

The two sides of a pair take turns, and the best of each counts: on a shared machine single times say little.
"""

from __future__ import annotations

import argparse
import heapq
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from taskdiv_assets import environment
from taskdiv_assets.selection.apportionment import allocate, stratified_order

ROOT = Path(__file__).resolve().parents[2]


class Row(NamedTuple):
    """One comparison; seconds are the best of the repetitions."""

    what: str
    ours_s: float
    other: str
    other_s: float | None

    def as_markdown(self) -> str:
        """A line of the table."""
        ratio = "" if self.other_s is None else f"{self.other_s / self.ours_s:,.2f}"
        other_s = "" if self.other_s is None else f"{self.other_s:.4g}"
        return f"| {self.what} | {self.ours_s:.4g} | {self.other} | {other_s} | {ratio} |"


def paired(ours: Callable[[], object], other: Callable[[], object], repeats_n: int = 5) -> tuple[float, float]:
    """Best seconds of both sides, taking turns."""
    best = [np.inf, np.inf]
    for _ in range(repeats_n):
        for side, call in enumerate((ours, other)):
            started = time.perf_counter()
            call()
            best[side] = min(best[side], time.perf_counter() - started)
    return best[0], best[1]


def fresh_interpreter(statement: str) -> None:
    """Run a statement in a new process, as Dagster does when it loads a code location."""
    subprocess.run([sys.executable, "-c", statement], cwd=ROOT, check=True, capture_output=True)


def definitions() -> Iterator[Row]:
    """Loading the definitions against importing Dagster alone."""
    ours, other = paired(
        lambda: fresh_interpreter("import taskdiv_assets.definitions"), lambda: fresh_interpreter("import dagster")
    )
    yield Row("load all definitions, fresh process", ours, "`import dagster` alone", other)


def literal_queue(costs: np.ndarray, sizes: np.ndarray, budget_n: int) -> np.ndarray:
    """The apportionment as it is defined: a priority queue, one pick at a time."""
    counts = np.zeros(len(costs), np.int64)
    queue = [(0, int(cost), order) for order, cost in enumerate(costs) if sizes[order] > 0]
    heapq.heapify(queue)
    for _ in range(min(budget_n, int(sizes.sum()))):
        key, cost, order = heapq.heappop(queue)
        counts[order] += 1
        if counts[order] < sizes[order]:
            heapq.heappush(queue, (key + cost, cost, order))
    return counts


def apportionment() -> Iterator[Row]:
    """Counts of one budget in closed form, and the full order of a pool."""
    random = np.random.default_rng(0)
    costs = random.integers(10_000, 1_000_000, 2_000)
    sizes = random.integers(1, 2_000, 2_000)
    assert (allocate(costs, sizes, 200_000) == literal_queue(costs, sizes, 200_000)).all()
    ours, other = paired(lambda: allocate(costs, sizes, 200_000), lambda: literal_queue(costs, sizes, 200_000), 3)
    yield Row("allocate 200,000 picks to 2,000 tasks", ours, "literal priority queue", other)
    tasks = random.integers(0, 2_000, 1_000_000).astype(np.int32)
    within, order = random.permutation(1_000_000), np.arange(2_000)
    ours, other = paired(lambda: stratified_order(tasks, costs, within, order), lambda: np.sort(within), 3)
    yield Row("stratified order of 1,000,000 prompts", ours, "one sort of as many numbers", other)


def scoring() -> Iterator[Row]:
    """Confidence of the lab's prompts against `generate` with logits, prompts sorted by length in both."""
    import torch

    from taskdiv_assets.experiment import LabModel
    from taskdiv_assets.language_model.confidence import score
    from taskdiv_assets.language_model.lab_model import train
    from taskdiv_assets.language_model.loading import load
    from taskdiv_assets.pools.lab import pool_items

    torch.set_num_threads(1)
    prompts = sorted((item.prompt for item in pool_items(1, None, 120, 24)), key=len)
    with tempfile.TemporaryDirectory() as folder:
        train(LabModel(steps=60), None, Path(folder))
        lm = load(Path(folder), dtype="float32", attention="sdpa")
        lm.tokenizer.padding_side = "left"

        def generate() -> None:
            for start in range(0, len(prompts), 128):
                batch = lm.tokenizer(prompts[start : start + 128], return_tensors="pt", padding=True)
                batch.pop("token_type_ids", None)
                out = lm.model.generate(
                    **batch, max_new_tokens=10, do_sample=False, output_logits=True, return_dict_in_generate=True
                )
                torch.stack(out.logits).softmax(-1).max(-1)

        ours, other = paired(lambda: score(lm, prompts, max_new_tokens=10), generate, 3)
    yield Row(
        f"score {len(prompts):,} prompts, 10 new tokens, batch-independent", ours, "`generate` with logits", other
    )


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "BENCHMARKS.md")
    arguments = parser.parse_args()
    rows = []
    for part in (definitions, apportionment, scoring):
        for row in part():
            print(row.as_markdown(), flush=True)
            rows.append(row.as_markdown())
    machine = environment.describe()
    text = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {machine['processor']}, {machine['cores_n']} cores, Python {platform.python_version()}, "
        f"torch {machine['versions'].get('torch', '?')}; one torch thread. Best of a few turns; trust the ratios.",
        "",
        "| ours | seconds | other | seconds | other / ours |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
