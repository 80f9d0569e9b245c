"""Measures of found tasks against true tasks, as pure functions of codes: agreement, stability, and evenness of picks.

`discovered` reads the pools and writes the page.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.pools.discovery import clusters, found_tasks
from taskdiv_assets.pools.discovery.clusters import Codes
from taskdiv_assets.pools.discovery.evenness import list_distance, with_true
from taskdiv_assets.pools.discovery.word_views import Rows
from taskdiv_assets.selection import SelectionPool, rank
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
    return [clusters.grouped(rows, rows, tasks_n, _seed(repetition)) for repetition in range(GROUPINGS_N)]


def _seed(repetition: int) -> int:
    return stream_seed(0, found_tasks.STREAM, "k-means", repetition)


def measure(rows: Rows, true: Codes, ids: NDArray[np.uint64], tasks_n: int, budgets: Sequence[int]) -> Measured:
    """Measure one number of tasks. `rows` are in random order, so every second row is a random half."""
    from sklearn.metrics import adjusted_rand_score

    found = groupings(rows, tasks_n)
    halves = [clusters.grouped(rows[start::2], rows, tasks_n, _seed(1)) for start in (0, 1)]
    return Measured(
        tasks_n,
        float(np.mean([codes.max() + 1 for codes in found])),
        *np.mean([with_true(true, codes) for codes in found], axis=0).tolist(),
        float(np.mean([adjusted_rand_score(*pair) for pair in itertools.combinations(found, 2)])),
        float(adjusted_rand_score(*halves)),
        np.mean([distances(true, codes, ids, budgets) for codes in found], axis=0).tolist(),
    )


def distances(
    true: Codes, found: Codes, ids: NDArray[np.uint64], budgets: Sequence[int], draws_n: int = DRAWS_N
) -> list[float]:
    """Return, for each budget, the total variation between the true tasks of two even spreads: over found and over true tasks.

    The value is the mean over seeds of `task_diversity`. If the found tasks are the true ones, it is 0 for budgets that the tasks
    can share without a rest.
    """
    names = tuple(f"task {code}" for code in range(int(found.max()) + 1))
    pool = SelectionPool(ids, found.astype(np.int32), names)
    sums = np.zeros(len(budgets))
    for seed in range(draws_n):
        order = rank("task_diversity", pool, seed=seed, depth=max(budgets))
        sums += [list_distance(true, order[:budget_n]) for budget_n in budgets]
    means: list[float] = (sums / draws_n).tolist()
    return means


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
