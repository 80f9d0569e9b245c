"""The built-in strategies by name, and `rank`, which runs a strategy.

A new strategy is one entry of `STRATEGIES`: a weight rule with a within-task order, a score, or a function
(pool, seed, depth) -> rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.selection import strata, streams
from taskdiv_assets.selection.checks import check_order, whole_number
from taskdiv_assets.selection.dpp import dpp_order
from taskdiv_assets.selection.facility_location import NEIGHBOURS, facility_location_order
from taskdiv_assets.selection.grid import blocks
from taskdiv_assets.selection.k_center import k_center_order
from taskdiv_assets.selection.on_device import is_tensor
from taskdiv_assets.selection.pool import TASK_MEANS, Floats, Progress, SelectionPool
from taskdiv_assets.selection.smart import smart_order

if TYPE_CHECKING:
    from torch import Tensor

OWN_ORDER = "own_order"  # the need of an order from a user's file, and the score column with the numbers in this file
READS_CONFIDENCE = frozenset({"scores", TASK_MEANS})  # needs that are computed from a model's confidence
NEEDS = frozenset({"tasks", "scores", TASK_MEANS, "embeddings", "prompts"})


@dataclass(frozen=True)
class Strategy:
    """A named order and the fields of a pool that it reads."""

    name: str
    description: str  # one sentence
    order: Callable[..., NDArray[np.int64]]  # (pool, seed, depth) -> rows; a greedy one also takes `progress`
    needs: frozenset[str] = frozenset()  # some of NEEDS
    score_column: str | None = None  # the column of `SelectionPool.scores` that the order sorts by
    uses_seed: bool = False  # True if the order depends on the seed
    is_greedy: bool = False  # True if `order` can stop at a depth; other strategies order the whole pool
    version: int | str = 1  # a plug-in increases it when its orders change; not used for built-in strategies

    @property
    def reads_tasks(self) -> bool:
        return bool(self.needs & {"tasks", TASK_MEANS})

    @property
    def reads_model(self) -> bool:
        """True if the strategy reads embeddings, which the base model computes, or confidence.

        Confidence comes from the base model, or from the model in `confidence.model` of the experiment.
        """
        return bool(self.needs & {"scores", TASK_MEANS, "embeddings"})


def _by_score(name: str, column: str, description: str, *, is_high_first: bool = False) -> Strategy:
    order = strata.score_order(column, is_high_first=is_high_first)
    return Strategy(name, description, order, needs=frozenset({"scores"}), score_column=column)


def facility_location(neighbours_n: int | None) -> Strategy:
    """Return the strategy facility_location: its sparse form with `neighbours_n` neighbours per prompt.

    If `neighbours_n` is None, return its exact form.
    """
    description = "Greedily the prompts closest to as much of the pool as possible."
    return _by_embeddings("facility_location", description, facility_location_order(neighbours_n))


def _by_embeddings(name: str, description: str, order: strata.Order, *, uses_seed: bool = False) -> Strategy:
    return Strategy(name, description, order, frozenset({"embeddings"}), uses_seed=uses_seed, is_greedy=True)


def _by_task(name: str, description: str, costs: strata.WeightRule, *needs: str) -> Strategy:
    order = strata.stratified(costs, strata.random_order(streams.WITHIN_TASK))
    return Strategy(name, description, order, frozenset({"tasks", *needs}), uses_seed=True)


_BUILT_IN = (
    Strategy("random", "Every prompt with the same chance.", strata.random_order(streams.RANDOM), uses_seed=True),
    _by_score("least_confidence", "sequence_log_probability", "The least probable continuation first."),
    _by_score(
        "mean_entropy", "mean_entropy", "The highest mean entropy per generated token first.", is_high_first=True
    ),
    _by_score("mean_margin", "mean_margin", "The smallest mean lead of the likeliest token over the next one first."),
    _by_score("min_margin", "min_margin", "The smallest lead at any generated token first."),
    _by_score("max_token_uncertainty", "min_probability", "The least certain single token first: the largest 1 - p."),
    _by_embeddings(
        "k_center",
        "Always the prompt that is farthest from all picks so far; the first one at random.",
        k_center_order,
        uses_seed=True,
    ),
    facility_location(NEIGHBOURS),
    _by_embeddings(
        "dpp", "Greedily the prompts that span the most volume: a determinantal point process's greedy mode.", dpp_order
    ),
    _by_task("task_diversity", "Round robin over tasks, at random within a task.", strata.equal_costs),
    _by_task(
        "weighted_task_diversity",
        "Tasks in proportion to the inverse of the base model's confidence, at random within a task.",
        strata.confidence_costs,
        TASK_MEANS,
    ),
    _by_task(
        "complement_weighted_task_diversity",
        "Tasks in proportion to what the base model's confidence lacks to 1, at random within a task.",
        strata.complement_costs,
        TASK_MEANS,
    ),
    Strategy(
        "weighted_task_diversity_min_margin",
        "The shares of weighted_task_diversity; within a task the smallest lead at any generated token first.",
        strata.stratified(strata.confidence_costs, strata.score_order("min_margin", is_high_first=False)),
        needs=frozenset({"tasks", TASK_MEANS, "scores"}),
        score_column="min_margin",
        uses_seed=True,  # only for the order of tasks of equal cost
    ),
    Strategy(
        "smart",
        "Tasks by the gains of a graph cut between their centroids; within a task the prompts closest to the rest of it.",
        smart_order,
        needs=frozenset({"tasks", "embeddings"}),
        is_greedy=True,
    ),
)

STRATEGIES: dict[str, Strategy] = {strategy.name: strategy for strategy in _BUILT_IN}


def rank(
    strategy: str | Strategy,  # a name in STRATEGIES, or a strategy of a plug-in
    pool: SelectionPool,
    *,
    seed: int,
    depth: int | None = None,  # rows to return; None for all
    progress: Progress | None = None,  # callback for greedy strategies, which may take minutes
) -> NDArray[np.int64]:  # (min(depth, n),) row positions, first choice first
    """Return the rows of a pool in the order of a strategy.

    The result for a smaller depth is a prefix of the result for a larger depth. The chosen prompts do not depend on the order of
    rows in the pool. Raise ValueError if the strategy is unknown, an argument is out of range, an input is missing, NaN or
    infinite, or the strategy returns an unusable order, such as too few rows or the same row twice.
    """
    chosen = _find(strategy) if isinstance(strategy, str) else strategy
    seed = whole_number("seed", seed)
    depth = None if depth is None else whole_number("depth", depth, "prompts to rank", least=1)
    _check_inputs(chosen, pool)
    order = chosen.order(pool, seed, depth, progress) if chosen.is_greedy else chosen.order(pool, seed, depth)
    pool_n = len(pool.prompt_ids)
    rows = check_order(f"the order of {chosen.name}", order[:depth], pool_n)
    wanted = min(depth or pool_n, pool_n)
    if len(rows) != wanted:
        raise ValueError(f"the order of {chosen.name} has {len(rows)} rows; expected {wanted} of the pool's {pool_n}.")
    return rows


def _find(name: str) -> Strategy:
    if name in STRATEGIES:
        return STRATEGIES[name]
    close = difflib.get_close_matches(name, STRATEGIES, n=2)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise ValueError(f"unknown strategy {name!r}.{hint} The strategies are: {', '.join(STRATEGIES)}.")


def _check_inputs(strategy: Strategy, pool: SelectionPool) -> None:
    column = strategy.score_column
    if column is not None:
        if column not in pool.scores:
            needed, there = f"the column {column!r} of confidence_table", ", ".join(pool.scores) or "none"
            raise ValueError(f"{strategy.name} needs {needed}; the pool has scores of: {there}.")
        _check_finite(strategy.name, f"column {column!r}", np.isfinite(pool.scores[column]), pool)
    if TASK_MEANS in strategy.needs and not pool.has_means:
        raise ValueError(f"{strategy.name} needs {TASK_MEANS}, one number per task; materialise it first.")
    if "tasks" in strategy.needs and len(pool.tasks) != len(pool.prompt_ids):
        raise ValueError(f"{strategy.name} needs tasks, the task of every prompt; give tasks and task_names.")
    if "prompts" in strategy.needs and pool.prompts is None:
        raise ValueError(f"{strategy.name} needs prompts, one text per row; pass the prompt column of raw_pool.")
    if "embeddings" in strategy.needs:
        if pool.embeddings is None:
            raise ValueError(f"{strategy.name} needs embeddings, one row per prompt; materialise prompt_embeddings.")
        _check_finite(strategy.name, "embeddings", _finite_rows(pool.embeddings), pool)


def _finite_rows(embeddings: Floats | Tensor) -> NDArray[np.bool_]:  # (n,)
    if is_tensor(embeddings):
        finite: NDArray[np.bool_] = embeddings.isfinite().all(dim=1).cpu().numpy()
        return finite
    return np.concatenate([np.isfinite(embeddings[rows]).all(axis=1) for rows in blocks(*embeddings.shape)])


def _check_finite(strategy: str, what: str, is_finite: NDArray[np.bool_], pool: SelectionPool) -> None:
    wrong = np.flatnonzero(~is_finite)
    if len(wrong):
        raise ValueError(
            f"{strategy}: {what} is NaN or infinite for {len(wrong)} of {len(is_finite)} prompts, "
            f"the first is prompt {pool.prompt_ids[wrong[0]]:016x}; score these prompts again."
        )
