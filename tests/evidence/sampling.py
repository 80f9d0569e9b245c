"""Check the intervals of samples by simulation on the full tables of two real pools: writes docs/SAMPLING.md.

Run: python -m tests.evidence.sampling     (some minutes of CPU the first time; `make evidence` calls it)

`taskdiv run` makes the confidence tables of demo and dolly_stories in $TASKDIV_HOME. Stored tables are reused. Each simulation
gives the prompts new ids, and so draws another sample, and compares its intervals with the whole table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_contracts.shared_statistics import total_variation
from taskdiv_assets.confidence import effect
from taskdiv_assets.confidence.sampling import TaskMeans, half_widths, next_sizes, sample_places, task_means
from taskdiv_assets.experiment import experiment_file
from taskdiv_assets.storage.store import Store
from tests.benchmarks.page import table

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"the lab": "demo", "Dolly": str(ROOT / "tests/experiments/dolly_stories.yaml")}
FIXED = (10, 30, 100)
TOLERANCES = (0.10, 0.05, 0.02)
DRAWS_N = 400
EFFECT_DRAWS_N = 100  # each of them draws 400 allocations of its own
FIRST_N = 32
PAGE = """\
# How much of a pool has to be scored

`confidence_sample` scores a part of each task: a number of prompts, or as many as a tolerance requires. It gives each task's mean
confidence with an interval, and estimates the effect on the allocation. This page compares both with the truth: the tables
of all prompts of two pools, {draws} simulated samples each. `python -m tests.evidence.sampling` writes it.

- **Coverage**: how often a task's 95% interval holds the mean over the whole task; mean over tasks, and the worst task.
  Tasks that were scored in full count as held.
- **Distance**: the share of {share:.0%} of the pool, bought by WeightedTaskDiversity, that goes to other tasks than by scoring all
  (total variation): the true value, and the value that the sample itself expected. "Counts held": how often a task's count by scoring
  all is in the sample's 95% interval for it.

{body}
"""
BUDGET_SHARE = 0.1


class Pool(NamedTuple):
    """A pool whose prompts were all scored."""

    name: str
    tasks: NDArray[np.int64]  # (n,) codes
    values: NDArray[np.float64]  # (n,) confidence
    tasks_n: int

    def means(self, is_scored: NDArray[np.bool_]) -> TaskMeans:
        return task_means(self.tasks, np.where(is_scored, self.values, np.nan), self.tasks_n)


def read_pool(name: str, source: str) -> Pool:
    """Run the command that makes the table, and read the table."""
    subprocess.run(
        [sys.executable, "-m", "taskdiv_assets.cli", "run", source, "--until", "task_confidence"], check=True
    )
    text, origin = experiment_file.read_text(source)
    store = Store(experiment_file.parse(text, origin).name)
    labels, scored = (store.read_table(asset).table.to_pandas() for asset in ("task_labels", "confidence_table"))
    both = labels.merge(scored, on="prompt_id")
    codes = both["task"].astype("category").cat.codes.to_numpy().astype(np.int64)
    return Pool(name, codes, both["confidence"].to_numpy(), int(codes.max()) + 1)


def sampled(pool: Pool, draw: int, rule: int | float) -> TaskMeans:
    """Return the task means of one sample: a fixed number of prompts of each task, or as many as a tolerance needs."""
    ids = np.random.default_rng(draw).permutation(len(pool.tasks)).astype(np.uint64) + np.uint64(draw << 32)
    places = sample_places(ids, pool.tasks)
    if isinstance(rule, int):
        return pool.means(places < rule)
    means = pool.means(places < FIRST_N)
    while ((sizes := next_sizes(means, rule, 0.95, FIRST_N)) > means.scored_n).any():
        means = pool.means(places < sizes[pool.tasks])
    return means


class Found(NamedTuple):
    """The results of the simulations of one rule."""

    scored: float  # share of the pool
    coverage: float
    worst: float  # of a task
    distance: float
    expected: float
    counts_held: float


def simulate(pool: Pool, rule: int | float, draws_n: int = DRAWS_N, effects_n: int = EFFECT_DRAWS_N) -> Found:
    """Compare the samples of one rule with the whole table."""
    truth = pool.means(np.ones(len(pool.tasks), np.bool_))
    budget_n = max(1, int(BUDGET_SHARE * len(pool.tasks)))
    whole = effect.weighted_allocation(truth.mean, truth.pool_n, budget_n)
    held, scored, effects = np.zeros(pool.tasks_n), [], []
    for draw in range(draws_n):
        means = sampled(pool, draw, rule)
        held += np.abs(means.mean - truth.mean) <= half_widths(means) + 1e-12
        scored.append(means.scored_n.sum() / len(pool.tasks))
        if draw < effects_n:
            said = effect.sampling_effect(means, budget_n, seed=draw)
            made = effect.weighted_allocation(means.mean, means.pool_n, budget_n)
            is_held = (said.low <= whole) & (whole <= said.high)
            effects.append((total_variation(whole, made), said.distance, is_held.mean()))
    coverage = held / draws_n
    return Found(
        float(np.mean(scored)), float(coverage.mean()), float(coverage.min()), *np.mean(effects, axis=0).tolist()
    )


def section(pool: Pool) -> str:
    """Return the table for one pool."""
    heads = ["rule", "scored", "coverage", "worst task", "distance", "expected", "counts held"]
    rows = []
    for rule in (*FIXED, *TOLERANCES):
        found = simulate(pool, rule)
        name = f"{rule} of each task" if isinstance(rule, int) else f"within {rule:.0%}, first {FIRST_N}"
        shares = (f"{found.scored:.1%}", f"{found.coverage:.3f}", f"{found.worst:.3f}")
        rows.append([name, *shares, f"{found.distance:.2%}", f"{found.expected:.2%}", f"{found.counts_held:.3f}"])
        print(pool.name, rows[-1], flush=True)
    sizes = np.bincount(pool.tasks)
    about = f"{len(pool.tasks):,} prompts of {pool.tasks_n} tasks, {sizes.min():,} to {sizes.max():,} each."
    return f"## {pool.name}\n\n{about}\n\n{table(heads, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "SAMPLING.md")
    output = parser.parse_args().output
    body = "\n\n".join(section(read_pool(name, source)) for name, source in SOURCES.items())
    output.write_text(PAGE.format(draws=DRAWS_N, share=BUDGET_SHARE, body=body), encoding="utf-8")


if __name__ == "__main__":
    main()
