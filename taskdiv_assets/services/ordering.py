"""Order a pool's prompts by a strategy: read the data that the strategy needs, choose the device, put annotated prompts first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from taskdiv_assets.confidence.effect import is_too_small
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.graph.stored_values import task_codes
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Work
from taskdiv_assets.pools import copies
from taskdiv_assets.pools.labels import refuse_unlabelled
from taskdiv_assets.pools.order_files import Placed, read_order
from taskdiv_assets.selection import SelectionPool, Strategy, parse_prompt_ids, rank
from taskdiv_assets.selection.facility_location import certificates
from taskdiv_assets.selection.strata import BY_COMPLEMENT
from taskdiv_assets.selection.strategies import OWN_ORDER
from taskdiv_assets.services.embedding_shards import read_embeddings

CERTIFIED_PROMPTS_MAX = 50_000  # for a larger pool, computing all similarities takes longer than the order itself
DEVICE_BYTES_PER_NUMBER = 2 + 4 + 8  # float16 as stored, float32 on the grid, float64 for dpp
DEVICE_BLOCK_BYTES = 4 * 2**30  # for blocks of similarities and arrays derived from them
Rows = NDArray[np.int64]  # positions in the pool


def read_own_order(work: Work, own: OwnOrder) -> Placed:
    """Return the places or scores that a user's order file gives to the prompts of the pool. For errors, see `read_order`."""
    settings = work.experiment.pool
    own_id = settings.columns.id if settings.columns is not None else None
    dropped_n = int(work.lineage.fresh(Unit("raw_pool")).notes.get("dropped_n", 0))
    left_out_n = None if settings.sample is not None else dropped_n  # a sample of the hub does not count other rows
    placed = read_order(own, work.read("raw_pool"), own_id, left_out_n, copies.kept_of(work.store))
    if placed.left_out_n:
        work.log(f"{placed.left_out_n:,} rows of {own.path} are of prompts that the pool has left out")
    return placed


def order_of(work: Work, strategy: Strategy, pool: SelectionPool, seed: int, depth: int | None) -> Rows:
    if not strategy.is_greedy:
        return rank(strategy, pool, seed=seed, depth=depth)
    if strategy.name == "facility_location":  # computing the similarities may take longer than the picks
        work.log(f"seed {seed}: comparing {len(pool.prompt_ids):,} prompts with each other before the first pick")
    with work.progress(f"seed {seed}", "picks") as picking:  # the picks may end early, when the graph is covered
        return rank(strategy, pool, seed=seed, depth=depth, progress=picking)


def put_first(order: Rows, groups: Sequence[Rows]) -> Rows:
    """Move groups of rows to the front of an order, one group after another. The length of the order does not change.

    Within a group, rows keep the sequence of the order. A row that the order lacks (because the order stops at a depth) comes at
    the end of its group. Groups are disjoint.

    >>> put_first(np.array([4, 2, 0, 3]), [np.array([1, 3, 2])]).tolist()
    [2, 3, 1, 4]
    """
    if not groups:
        return order
    moved = np.concatenate(groups)
    place = np.full(max(int(moved.max()), int(order.max())) + 1, len(order))
    place[order] = np.arange(len(order))
    first = [group[np.argsort(place[group], kind="stable")] for group in groups]
    return np.concatenate([*first, order[~np.isin(order, moved)]])[: len(order)]


def positions(pool: SelectionPool, prompt_ids: Sequence[str]) -> Rows:
    by_id = np.argsort(pool.prompt_ids, kind="stable")
    return by_id[np.searchsorted(pool.prompt_ids, parse_prompt_ids(prompt_ids), sorter=by_id)]


def reached(pool: SelectionPool, order: Rows, budgets: Sequence[int]) -> str:
    """Return text that states, for each budget up to the order's length, how well the first prompts cover the pool.

    Raise ValueError if the pool has no embeddings.
    """
    found = certificates(pool, order, sorted(budget_n for budget_n in budgets if budget_n <= len(order)))
    return "; ".join(
        f"{entry.budget_n} prompts: mean similarity {entry.mean_similarity:.4f}, "
        f"at least {entry.share_of_best_at_least:.1%} of what any {entry.budget_n} prompts reach"
        for entry in found
    )


def on_fastest_device(pool: SelectionPool, log: Callable[[str], None]) -> SelectionPool:
    """Return the pool with its embeddings on the GPU if a GPU has enough free memory. The picks do not depend on the device."""
    if pool.embeddings is None:
        return pool
    import torch

    n, d = pool.embeddings.shape
    needed = DEVICE_BYTES_PER_NUMBER * n * d + DEVICE_BLOCK_BYTES
    if not torch.cuda.is_available():
        return pool
    if torch.cuda.mem_get_info()[0] < needed:
        log(f"picking on the CPU: the GPU has less than {needed / 2**30:.1f} GiB free")
        return pool
    log(f"picking on {torch.cuda.get_device_name()}")
    return replace(pool, embeddings=torch.from_numpy(np.array(pool.embeddings)).to("cuda"))


def selection_pool(work: Work, strategy: Strategy, placed: Placed | None = None) -> SelectionPool:
    """Return the ids and tasks of the pool, and the other data that a strategy needs. Row i is row i of raw_pool.

    Raises:
        ValueError: the strategy needs tasks, and a prompt has a blank cell in the task column; or the mean confidence of a task
            is too small for a weight.
        StaleInputError: a table that the strategy needs is not fresh.
    """
    needs = strategy.needs
    labels = work.read("task_labels")
    if work.experiment.labels_from == "column" and needs & {"tasks", "task_confidence"}:
        refuse_unlabelled(labels, [strategy.name])  # the table may have been made for strategies that need no tasks
    codes, task_names = task_codes(labels)
    task_confidence, scores, embeddings = None, {}, None
    if "task_confidence" in needs:
        table = work.read("task_confidence")
        by_task = dict(zip(table["task"].to_pylist(), table["mean_confidence"].to_pylist(), strict=True))
        task_confidence = np.array([by_task[name] for name in task_names])
        if strategy.name != BY_COMPLEMENT:
            refuse_lost_weights(task_names, task_confidence, work.experiment.confidence.column)
    if "scores" in needs:
        table = work.read("confidence_table")
        column = strategy.score_column
        scores = {column: table[column].to_numpy()} if column else {}
    if placed is not None:
        scores = {OWN_ORDER: placed.values}
    if "embeddings" in needs:
        embeddings = read_embeddings(work.store, work.lineage.fresh(Unit("prompt_embeddings")).identity)
    prompts = tuple(work.read("raw_pool")["prompt"].to_pylist()) if "prompts" in needs else None
    return SelectionPool(
        prompt_ids=parse_prompt_ids(labels["prompt_id"].to_pylist()),
        tasks=codes.astype(np.int32),
        task_names=tuple(task_names),
        task_confidence=task_confidence,
        scores=scores,
        embeddings=embeddings,
        prompts=prompts,
        confidence_column=work.experiment.confidence.column if "task_confidence" in needs else "",
    )


def refuse_lost_weights(task_names: Sequence[str], means: NDArray[np.float64], column: str) -> None:
    """Raise ValueError if a task's mean confidence is too small for a weight (`is_too_small`)."""
    lost = np.flatnonzero(is_too_small(means))
    if len(lost):
        raise ValueError(
            f"the mean {column} of {len(lost)} of {len(means)} tasks is too small to be told from others, the first is task "
            f"{task_names[lost[0]]!r} with {means[lost[0]]:.3g}: the product of many tokens' probabilities has reached the "
            "least number that confidence_table holds. Choose `confidence: {column: geometric_mean}`; nothing is scored again"
        )
