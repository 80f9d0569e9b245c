"""Simulated tables of confidence: by task, by other sources and definitions, and compared with accuracy.

The numbers are invented; the columns are those of the stored tables. A plain queue allocates one label after another.
"""

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

DEFINITIONS = {
    "mean_probability": 1.0,
    "geometric_mean": 1.2,
    "min_probability": 2.5,
    "first_probability": 0.7,
    "sequence_probability": 4.0,
}  # a power of the mean confidence, and noise
ALTERNATIVES = [
    {"name": "prompt", "of": "prompt"},
    {"name": "small", "of": "continuation", "model": {"hub": "some/small-model", "revision": "abc"}},
]
SECONDS = {"chosen": 12.5, "prompt": 1.5, "small": 4.25}
Columns = Mapping[str, Any]


def task_confidence(tasks: list[str], sizes: Mapping[str, int], means: np.ndarray, sample_n: int | None) -> Columns:
    """Return means with the standard error of a finite population: 0 if all are scored, null if only one of several is."""
    pool = np.array([sizes[task] for task in tasks])
    scored = pool if sample_n is None else np.minimum(pool, sample_n)
    errors = 0.2 / np.sqrt(scored) * np.sqrt(1 - scored / pool)
    return {
        "task": tasks,
        "pool_n": pool,
        "scored_n": scored,
        "mean_confidence": means,
        "standard_error": pa.array(np.where((scored == 1) & (pool > 1), np.nan, errors), from_pandas=True),
    }


def comparison(
    tasks: list[str], sizes: Mapping[str, int], means: np.ndarray, budgets: tuple[int, ...], sample_n: int | None
) -> Columns:
    """Return one row for each source, definition, budget and task. No rows if no budget fits the pool."""
    random = np.random.default_rng(4)
    variants = [("chosen", name, power) for name, power in DEFINITIONS.items()]
    variants += [(entry["name"], "mean_probability", 1.0) for entry in ALTERNATIVES]
    rows = []
    for source, definition, power in variants:
        is_own = (source, definition) == ("chosen", "mean_probability")
        noise = np.zeros(len(tasks)) if is_own else random.normal(0, 0.15, size=len(tasks))
        own = np.clip(means**power * np.exp(noise), 1e-6, 1.0)
        for budget in budgets:
            if budget <= sum(sizes.values()):
                counts = queue(own, [sizes[task] for task in tasks], budget)
                rows += [
                    row(source, definition, budget, task, float(mean), count, is_own, sizes[task], sample_n)
                    for task, mean, count in zip(tasks, own, counts, strict=True)
                ]
    schema = {"allocated_low_n": pa.int64(), "allocated_high_n": pa.int64(), "standard_error": pa.float64()}
    names = [
        "source", "definition", "budget_n", "task", "is_chosen", "mean_confidence", "standard_error", "allocated_n",
        "allocated_low_n", "allocated_high_n", "distance_by_sampling", "score_s",
    ]  # fmt: skip
    return {name: pa.array([one[name] for one in rows], schema.get(name)) for name in names}


def row(
    source: str, definition: str, budget: int, task: str, mean: float, count: int, is_own: bool, size: int,
    sample_n: int | None,
) -> dict[str, Any]:  # fmt: skip
    is_sampled = sample_n is not None
    return {
        "source": source,
        "definition": definition,
        "budget_n": budget,
        "task": task,
        "is_chosen": is_own,
        "mean_confidence": mean,
        "standard_error": 0.01 if is_sampled else 0.0,
        "allocated_n": count,
        "allocated_low_n": max(0, count - 2) if is_sampled else None,
        "allocated_high_n": min(size, count + 3) if is_sampled else None,
        "distance_by_sampling": round(0.3 / budget**0.5, 4) if is_sampled else 0.0,
        "score_s": SECONDS[source],
    }


def queue(means: np.ndarray, sizes: list[int], budget: int) -> list[int]:
    """Allocate labels one by one, each to the task whose cost including this label is lowest."""
    counts, waiting = [0] * len(sizes), [(float(mean), place) for place, mean in enumerate(means)]
    heapq.heapify(waiting)
    for _ in range(budget):
        _, place = heapq.heappop(waiting)
        counts[place] += 1
        if counts[place] < sizes[place]:
            heapq.heappush(waiting, (float(means[place]) * (counts[place] + 1), place))
    return counts


def accuracy(tasks: list[str], means: np.ndarray, items_n: int) -> Columns:
    """Return accuracies close to the confidences, but 0 for tasks that start with `flip`. Empty without items."""
    random = np.random.default_rng(5)
    kept = tasks if items_n else []
    confidence = np.clip(means + random.normal(0, 0.05, size=len(tasks)), 0.05, 0.99)[: len(kept)]
    right = np.array([random.binomial(items_n, value) for value in confidence], dtype=np.int64)
    for place, task in enumerate(kept):
        if task.startswith("flip"):
            confidence[place], right[place] = 0.93, 0
    share = right / max(1, items_n)
    low, high = wilson(share, max(1, items_n))
    return {
        "task": pa.array(kept, pa.string()),
        "items_n": pa.array([items_n] * len(kept), pa.int64()),
        "mean_confidence": confidence,
        "accuracy": share,
        "accuracy_low": low,
        "accuracy_high": high,
        "answer_probability": np.clip(0.9 * share + 0.05, 0, 1),
    }


def wilson(share: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    z = 1.96
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    below = 1 + z * z / n
    return np.maximum((middle - half) / below, 0), np.minimum((middle + half) / below, 1)
