"""Every strategy by name, and `rank`, the one way to call them.

A strategy is a total order of the pool; a budget takes its first prompts. STRATEGIES lists what works and
nothing else. A new one is a line here: a within-task order and a weight rule, a score, or a function (pool,
seed, depth) -> rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import streams
from taskdiv_assets.selection.checks import check_order, whole_number
from taskdiv_assets.selection.dpp import dpp_order
from taskdiv_assets.selection.facility_location import NEIGHBOURS, facility_location_order
from taskdiv_assets.selection.grid import rows_at_once
from taskdiv_assets.selection.k_center import k_center_order
from taskdiv_assets.selection.on_device import is_tensor
from taskdiv_assets.selection.pool import Floats, Progress, SelectionPool
from taskdiv_assets.selection.strata import (
    complement_costs,
    confidence_costs,
    equal_costs,
    random_order,
    stratified,
)
from taskdiv_assets.selection.uncertainty import score_order

if TYPE_CHECKING:
    from torch import Tensor


OWN_ORDER = "own_order"  # what an order of the user's own reads of a pool: the numbers of its file
# What a strategy may say that it reads.
NEEDS = frozenset({"tasks", "scores", "task_confidence", "embeddings", "prompts"})


@dataclass(frozen=True)
class Strategy:
    """A named order, and what it reads of a pool."""

    name: str
    description: str  # one sentence, for people
    order: Callable[..., NDArray[np.int64]]  # (pool, seed, depth) -> rows; a greedy one also takes `progress`
    needs: frozenset[str] = frozenset()  # of NEEDS
    score_column: str | None = None  # the column of confidence_table that it sorts by
    uses_seed: bool = False  # another seed may give another order
    is_greedy: bool = False  # may stop at a depth; the others always order the whole pool
    version: int | str = (
        1  # of a plug-in: raise it when its orders change. A built-in one's are versioned with the graph
    )


def _by_score(name: str, column: str, description: str, *, is_high_first: bool = False) -> Strategy:
    order = score_order(column, is_high_first=is_high_first)
    return Strategy(name, description, order, needs=frozenset({"scores"}), score_column=column)


def facility_location(neighbours_n: int | None) -> Strategy:
    """On a sparse graph of each prompt's `neighbours_n` most similar ones; or exact, on all similarities, where None."""
    return Strategy(
        "facility_location",
        "Greedily the prompts closest to as much of the pool as possible.",
        facility_location_order(neighbours_n),
        needs=frozenset({"embeddings"}),
        is_greedy=True,
    )


_WITHIN = random_order(streams.WITHIN_TASK)

_ALL = (
    Strategy("random", "Every prompt with the same chance.", random_order(streams.RANDOM), uses_seed=True),
    _by_score("least_confidence", "sequence_log_probability", "The least probable continuation first."),
    _by_score(
        "mean_entropy",
        "mean_entropy",
        "The highest mean entropy per generated token first.",
        is_high_first=True,
    ),
    _by_score("mean_margin", "mean_margin", "The smallest mean lead of the likeliest token over the next one first."),
    _by_score("min_margin", "min_margin", "The smallest lead at any generated token first."),
    _by_score("max_token_uncertainty", "min_probability", "The least certain single token first: the largest 1 - p."),
    Strategy(
        "k_center",
        "Always the prompt that is farthest from all picks so far; the first one at random.",
        k_center_order,
        needs=frozenset({"embeddings"}),
        uses_seed=True,
        is_greedy=True,
    ),
    facility_location(NEIGHBOURS),
    Strategy(
        "dpp",
        "Greedily the prompts that span the most volume: a determinantal point process's greedy mode.",
        dpp_order,
        needs=frozenset({"embeddings"}),
        is_greedy=True,
    ),
    Strategy(
        "task_diversity",
        "Round robin over tasks, at random within a task.",
        stratified(equal_costs, _WITHIN),
        needs=frozenset({"tasks"}),
        uses_seed=True,
    ),
    Strategy(
        "weighted_task_diversity",
        "Tasks in proportion to the inverse of the base model's confidence, at random within a task.",
        stratified(confidence_costs, _WITHIN),
        needs=frozenset({"tasks", "task_confidence"}),
        uses_seed=True,
    ),
    Strategy(
        "complement_weighted_task_diversity",
        "Tasks in proportion to what the base model's confidence lacks to 1, at random within a task.",
        stratified(complement_costs, _WITHIN),
        needs=frozenset({"tasks", "task_confidence"}),
        uses_seed=True,
    ),
    Strategy(
        "weighted_task_diversity_min_margin",
        "The shares of weighted_task_diversity; within a task the smallest lead at any generated token first.",
        stratified(confidence_costs, score_order("min_margin", is_high_first=False)),
        needs=frozenset({"tasks", "task_confidence", "scores"}),
        score_column="min_margin",
        uses_seed=True,  # only for the order of tasks of equal cost
    ),
)

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}


def rank(
    strategy: str | Strategy,  # a name in STRATEGIES, or one of your own
    pool: SelectionPool,
    *,
    seed: int,
    depth: int | None = None,  # how many rows to return; all by default
    progress: Progress | None = None,  # told of greedy picks, which may take minutes
) -> NDArray[np.int64]:  # (min(depth, n),) row positions, first choice first
    """Order a pool's rows by a strategy. The result at a smaller depth is a prefix of that at a larger one.

    The same ids, tasks, scores and embeddings give the same prompts in whatever order the rows stand. Raises
    ValueError for an unknown strategy, a seed that is no whole number, a depth below 1, inputs that are missing, NaN or
    infinite, and a strategy of your own that gives too few rows, or one twice.
    """
    chosen = _find(strategy) if isinstance(strategy, str) else strategy
    seed = whole_number("seed", seed)
    depth = None if depth is None else whole_number("depth", depth, "prompts to rank", least=1)
    _check_inputs(chosen, pool)
    order = chosen.order(pool, seed, depth, progress) if chosen.is_greedy else chosen.order(pool, seed, depth)
    return _checked_order(chosen.name, order[:depth], depth, len(pool.prompt_ids))


def _checked_order(name: str, order: NDArray[np.int64], depth: int | None, pool_n: int) -> NDArray[np.int64]:
    rows = check_order(f"the order of {name}", order, pool_n)
    wanted = min(depth or pool_n, pool_n)
    if len(rows) != wanted:
        raise ValueError(f"the order of {name} has {len(rows)} rows; expected {wanted} of the pool's {pool_n}.")
    return rows


def _find(name: str) -> Strategy:
    if name in STRATEGIES:
        return STRATEGIES[name]
    close = difflib.get_close_matches(name, STRATEGIES, n=2)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise ValueError(f"unknown strategy {name!r}.{hint} There are: {', '.join(STRATEGIES)}.")


def _check_inputs(strategy: Strategy, pool: SelectionPool) -> None:
    """Refuse a pool that lacks what the strategy reads, or holds NaN or infinite numbers there."""
    column = strategy.score_column
    if column is not None:
        if column not in pool.scores:
            there = ", ".join(pool.scores) or "none"
            raise ValueError(
                f"{strategy.name} needs the column {column!r} of confidence_table; the pool has scores for: {there}."
            )
        _check_finite(strategy.name, f"column {column!r}", np.isfinite(pool.scores[column]), pool)
    if "task_confidence" in strategy.needs and pool.task_confidence is None:
        raise ValueError(
            f"{strategy.name} needs task_confidence, one number per task; materialise task_confidence first."
        )
    if "tasks" in strategy.needs and len(pool.tasks) != len(pool.prompt_ids):
        raise ValueError(f"{strategy.name} needs tasks, the task of every prompt; give tasks and task_names.")
    if "prompts" in strategy.needs and pool.prompts is None:
        raise ValueError(f"{strategy.name} needs prompts, one text per row; pass the prompt column of raw_pool.")
    if "embeddings" in strategy.needs:
        if pool.embeddings is None:
            raise ValueError(
                f"{strategy.name} needs embeddings, one row per prompt; materialise prompt_embeddings first."
            )
        _check_finite(strategy.name, "embeddings", _finite_rows(pool.embeddings), pool)


def _finite_rows(embeddings: Floats | Tensor) -> NDArray[np.bool_]:  # (n,)
    if is_tensor(embeddings):
        finite: NDArray[np.bool_] = embeddings.isfinite().all(dim=1).cpu().numpy()
        return finite
    step = rows_at_once(embeddings.shape[1])
    starts = range(0, len(embeddings), step)
    return np.concatenate([np.isfinite(embeddings[start : start + step]).all(axis=1) for start in starts])


def _check_finite(strategy: str, what: str, is_finite: NDArray[np.bool_], pool: SelectionPool) -> None:
    wrong = np.flatnonzero(~is_finite)
    if len(wrong):
        raise ValueError(
            f"{strategy}: {what} is NaN or infinite for {len(wrong)} of {len(is_finite)} prompts, "
            f"the first is prompt {pool.prompt_ids[wrong[0]]:016x}; score these prompts again."
        )
