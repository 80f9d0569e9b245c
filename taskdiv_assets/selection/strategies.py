"""Every strategy by name, and `rank`, the one way to call them.

A strategy is a total order of the pool; a budget takes its first prompts. STRATEGIES lists what works and
nothing else. A new one is a line here: a within-task order and a weight rule, a score, or a function (pool,
seed, depth) -> rows.
"""

import difflib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import streams
from taskdiv_assets.selection.coverage import facility_location_order
from taskdiv_assets.selection.pool import SelectionPool
from taskdiv_assets.selection.strata import Order, confidence_costs, equal_costs, random_order, stratified
from taskdiv_assets.selection.uncertainty import score_order


@dataclass(frozen=True)
class Strategy:
    """A named order, and what it reads of a pool."""

    name: str
    description: str  # one sentence, for people
    order: Order
    needs: frozenset[str] = frozenset()  # of "scores", "task_confidence", "embeddings"
    score_column: str | None = None  # the column of confidence_table that it sorts by
    is_random_within: bool = False  # another seed gives another order
    is_greedy: bool = False  # may stop at a depth; the others always order the whole pool


def _by_score(name: str, column: str, description: str, *, is_high_first: bool = False) -> Strategy:
    order = score_order(column, is_high_first=is_high_first)
    return Strategy(name, description, order, needs=frozenset({"scores"}), score_column=column)


_WITHIN = random_order(streams.WITHIN_TASK)

_ALL = (
    Strategy("random", "Every prompt with the same chance.", random_order(streams.RANDOM), is_random_within=True),
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
        "facility_location",
        "Greedily the prompts closest to as much of the pool as possible.",
        facility_location_order,
        needs=frozenset({"embeddings"}),
        is_greedy=True,
    ),
    Strategy(
        "task_diversity",
        "Round robin over tasks, at random within a task.",
        stratified(equal_costs, _WITHIN),
        is_random_within=True,
    ),
    Strategy(
        "weighted_task_diversity",
        "Tasks in proportion to the inverse of the base model's confidence, at random within a task.",
        stratified(confidence_costs, _WITHIN),
        needs=frozenset({"task_confidence"}),
        is_random_within=True,
    ),
)

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _ALL}


def rank(
    strategy: str,
    pool: SelectionPool,
    *,
    seed: int,
    depth: int | None = None,  # how many rows to return; all by default
) -> NDArray[np.int64]:  # (min(depth, n),) row positions, first choice first
    """Order a pool's rows by a strategy. The result at a smaller depth is a prefix of that at a larger one.

    The same ids, tasks, scores and embeddings give the same prompts in whatever order the rows stand. Raises
    ValueError for an unknown strategy, a depth below 1, and inputs that are missing, NaN or infinite.
    """
    chosen = _find(strategy)
    if depth is not None and depth < 1:
        raise ValueError(f"depth is {depth}; expected 1 or more prompts to rank.")
    _check_inputs(chosen, pool)
    return chosen.order(pool, seed, depth)[:depth]


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
    if "embeddings" in strategy.needs:
        if pool.embeddings is None:
            raise ValueError(
                f"{strategy.name} needs embeddings, one row per prompt; materialise prompt_embeddings first."
            )
        is_finite = np.asarray(np.isfinite(pool.embeddings).all(axis=1))
        _check_finite(strategy.name, "embeddings", is_finite, pool)


def _check_finite(strategy: str, what: str, is_finite: NDArray[np.bool_], pool: SelectionPool) -> None:
    wrong = np.flatnonzero(~is_finite)
    if len(wrong):
        raise ValueError(
            f"{strategy}: {what} is NaN or infinite for {len(wrong)} of {len(is_finite)} prompts, "
            f"the first is prompt {pool.prompt_ids[wrong[0]]:016x}; score these prompts again."
        )
