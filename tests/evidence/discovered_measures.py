"""Measures of found tasks against true tasks, as pure functions of codes: agreement, stability, and evenness of picks.

`discovered` reads the pools and writes the page.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_contracts.shared_statistics import total_variation
from taskdiv_assets.pools.discovery import clusters, found_tasks
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.word_views import Rows
from taskdiv_assets.selection import SelectionPool, rank
from taskdiv_assets.selection.apportionment import allocate
from taskdiv_assets.selection.streams import stream_seed

GROUPINGS_N = 3  # seeds of k-means
DRAWS_N = 30  # seeds of the strategy, for each grouping


class Measured(NamedTuple):
    """What was measured of one number of tasks. All values except `asked_n` and `halves` are means over the groupings."""

    asked_n: int  # tasks that were looked for
    tasks_n: float  # tasks that were found
    rand: float  # adjusted Rand index with the true tasks
    information: float  # normalised mutual information with the true tasks
    purity: float
    seeds: float  # adjusted Rand index between two seeds
    halves: float  # adjusted Rand index of two groupings, each made from one half of the prompts
    distances: list[float]  # of each budget, from an even spread over true tasks


def groupings(rows: Rows, tasks_n: int) -> list[Codes]:
    """Return groupings of `rows` as the product makes them, with `GROUPINGS_N` seeds; the first is the one that users get."""
    return [grouped(rows, rows, tasks_n, repetition) for repetition in range(GROUPINGS_N)]


def grouped(fitted: Rows, rows: Rows, tasks_n: int, repetition: int) -> Codes:
    """Return the group of each row. The centres are made from `fitted`."""
    seed = stream_seed(0, found_tasks.STREAM, "k-means", repetition)
    return clusters.without_tiny(rows, clusters.nearest(rows, clusters.centres_of(fitted, tasks_n, seed)))


def measure(rows: Rows, true: Codes, ids: NDArray[np.uint64], tasks_n: int, budgets: Sequence[int]) -> Measured:
    """Measure one number of tasks. `rows` are in random order, so every second row is a random half."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = groupings(rows, tasks_n)
    halves = [grouped(rows[start::2], rows, tasks_n, 1) for start in (0, 1)]
    return Measured(
        tasks_n,
        float(np.mean([codes.max() + 1 for codes in found])),
        float(np.mean([adjusted_rand_score(true, codes) for codes in found])),
        float(np.mean([normalized_mutual_info_score(true, codes) for codes in found])),
        float(np.mean([purity(true, codes) for codes in found])),
        float(np.mean([adjusted_rand_score(*pair) for pair in itertools.combinations(found, 2)])),
        float(adjusted_rand_score(*halves)),
        np.mean([distances(true, codes, ids, budgets) for codes in found], axis=0).tolist(),
    )


def purity(true: Codes, found: Codes) -> float:
    """Return the share of prompts that have the commonest true task of their found task.

    >>> purity(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    0.75
    """
    counts = np.zeros((int(found.max()) + 1, int(true.max()) + 1), np.int64)
    np.add.at(counts, (found, true), 1)
    return float(counts.max(axis=1).sum() / len(true))


def even_spread(true: Codes, budget_n: int) -> NDArray[np.int64]:  # (T,) prompts of each true task
    sizes = np.bincount(true).astype(np.int64)
    return allocate(np.ones_like(sizes), sizes, budget_n)


def distances(
    true: Codes, found: Codes, ids: NDArray[np.uint64], budgets: Sequence[int], draws_n: int = DRAWS_N
) -> list[float]:
    """Return, for each budget, the total variation between the true tasks of two even spreads: over found and over true tasks.

    The value is the mean over seeds of `task_diversity`. If the found tasks are the true ones, it is 0 for budgets that the tasks
    can share without a rest.
    """
    names = tuple(f"task {code}" for code in range(int(found.max()) + 1))
    pool = SelectionPool(ids, found.astype(np.int32), names)
    goals = [even_spread(true, budget_n) for budget_n in budgets]
    sums = np.zeros(len(budgets))
    for seed in range(draws_n):
        order = true[rank("task_diversity", pool, seed=seed, depth=max(budgets))]
        picked = [np.bincount(order[:budget_n], minlength=len(goals[0])) for budget_n in budgets]
        sums += [total_variation(goal, counts) for goal, counts in zip(goals, picked, strict=True)]
    means: list[float] = (sums / draws_n).tolist()
    return means


def random_distance(true: Codes, budget_n: int) -> float:
    """Return the expected value of the same distance for random choice; exact, by the hypergeometric distribution."""
    from scipy.stats import hypergeom

    sizes, goals = np.bincount(true), even_spread(true, budget_n)
    counts = np.arange(budget_n + 1)
    gaps = [
        np.abs(counts - goal) @ hypergeom.pmf(counts, len(true), size, budget_n)
        for size, goal in zip(sizes, goals, strict=True)
    ]
    return float(np.sum(gaps) / 2 / budget_n)


def tasks_asked(true_n: int, prompts_n: int) -> list[int]:
    """Return the numbers of tasks to look for: ¼, ½, 1, 2, … times the true number, and the largest number of the rule.

    >>> tasks_asked(16, 4000)
    [4, 8, 16, 32, 64, 128, 200, 256]
    """
    largest_n = prompts_n // found_tasks.PROMPTS_A_TASK
    doubled = [true_n * 2**step // 4 for step in range(12)]
    return sorted({max(2, n) for n in doubled if n <= prompts_n // 10} | {largest_n})


def asked_by_rule(prompts_n: int, budget_n: int, picks_n: int) -> int:
    """Return the number of tasks that the rule would give with `picks_n` picks a found task.

    >>> asked_by_rule(5000, 64, 2), found_tasks.tasks_by_rule(5000, 64)
    (32, 32)
    """
    return max(2, min(prompts_n // found_tasks.PROMPTS_A_TASK, budget_n // picks_n, found_tasks.TASKS_MAX))
