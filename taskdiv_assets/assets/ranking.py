"""From scores to lists: one order of the pool per strategy and seed, and its first `budget` prompts per cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from taskdiv_assets.assets.confidence import read_embeddings, task_sizes
from taskdiv_assets.assets.pictures import bars
from taskdiv_assets.assets.stage import Product, Stage, Work
from taskdiv_assets.selection import STRATEGIES, SelectionPool, rank
from taskdiv_assets.units import Unit


def make_ranking(work: Work) -> Product:
    """Order the whole pool by one strategy, once per selection seed."""
    strategy = str(work.unit.key)
    pool = selection_pool(work, strategy)
    labels = work.read("task_labels")
    depth = work.lineage.ranking_depth(strategy)
    seeds = sorted(work.experiment.selection_seeds)
    progress = work.progress("ranking", "seeds")
    parts = []
    for done, seed in enumerate(seeds, start=1):
        order = rank(strategy, pool, seed=seed, depth=depth)
        rows = labels.select(["prompt_id", "task"]).take(pa.array(order))
        ranks = {"selection_seed": np.full(len(order), seed), "rank": np.arange(len(order))}
        parts.append(pa.table({**ranks, "prompt_id": rows["prompt_id"], "task": rows["task"]}))
        progress(done, len(seeds))
    return Product(pa.concat_tables(parts), {"strategy": strategy})


def ranking_parameters(work: Work) -> dict[str, Any]:
    """What the contract of a ranking has to know of the pool."""
    labels = work.read("task_labels")
    prompt_ids = labels["prompt_id"].to_pylist()
    return {
        "pool_prompt_ids": prompt_ids,
        "depth": min(work.lineage.ranking_depth(str(work.unit.key)), len(prompt_ids)),
        "selection_seeds": sorted(work.experiment.selection_seeds),
        "prompt_tasks": dict(zip(prompt_ids, labels["task"].to_pylist(), strict=True)),
    }


def selection_pool(work: Work, strategy: str) -> SelectionPool:
    """What a strategy may see of the pool, and no more than it needs; row i is row i of raw_pool."""
    needs = STRATEGIES[strategy].needs
    labels = work.read("task_labels")
    prompt_ids = labels["prompt_id"].to_pylist()
    task_names = sorted(set(labels["task"].to_pylist()))
    codes = {name: code for code, name in enumerate(task_names)}
    task_confidence, scores, embeddings = None, {}, None
    if "task_confidence" in needs:
        table = work.read("task_confidence")
        by_task = dict(zip(table["task"].to_pylist(), table["mean_confidence"].to_pylist(), strict=True))
        task_confidence = np.array([by_task[name] for name in task_names])
    if "scores" in needs:
        table = work.read("confidence_table")
        column = STRATEGIES[strategy].score_column
        scores = {column: table[column].to_numpy()} if column else {}
    if "embeddings" in needs:
        embeddings = read_embeddings(work, work.lineage.fresh(Unit("prompt_embeddings")).identity)
    return SelectionPool(
        prompt_ids=np.array([int(prompt_id, 16) for prompt_id in prompt_ids], dtype=np.uint64),
        tasks=np.array([codes[task] for task in labels["task"].to_pylist()], dtype=np.int32),
        task_names=tuple(task_names),
        task_confidence=task_confidence,
        scores=scores,
        embeddings=embeddings,
    )


def make_allocation(work: Work) -> Product:
    """The first `budget` prompts of each seed's order."""
    cell = work.cell
    pool = work.lineage.pool_size
    if pool is not None and cell.budget_n > pool.prompts_n:
        raise ValueError(
            f"budget {cell.budget_n} is larger than the pool of {pool.prompts_n} prompts; "
            f"expected at most {pool.prompts_n}. Remove the budget, or add prompts to the pool"
        )
    ranking = work.read("ranking", cell.strategy)
    depth = work.lineage.ranking_depth(cell.strategy)
    if cell.budget_n > depth:
        raise ValueError(
            f"budget {cell.budget_n} is deeper than the ranking of {cell.strategy}, which stops at {depth} prompts; "
            "raise `ranking_depth` in the experiment file"
        )
    seeds = list(work.lineage.cell_selection_seeds(cell))
    is_chosen = (np.asarray(ranking["rank"]) < cell.budget_n) & np.isin(np.asarray(ranking["selection_seed"]), seeds)
    return Product(ranking.filter(is_chosen))


def allocation_parameters(work: Work) -> dict[str, Any]:
    """What the contract of an allocation has to know: the budget, the seeds, and the size of every task."""
    seeds = list(work.lineage.cell_selection_seeds(work.cell))
    return {"budget_n": work.cell.budget_n, "selection_seeds": seeds, **task_sizes(work)}


def picture_allocation(table: pa.Table, notes: Any) -> bytes:
    """Prompts per task, of the first seed."""
    seed = table["selection_seed"][0].as_py()
    rows = table.filter(np.asarray(table["selection_seed"]) == seed)
    counts = {entry["values"]: entry["counts"] for entry in rows["task"].value_counts().to_pylist()}
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return bars(names, {f"seed {seed}": [counts[name] for name in names]}, f"prompts to annotate, seed {seed}")


STAGES = (
    Stage(
        "ranking",
        make_ranking,
        deps=("raw_pool", "task_labels", "confidence_table", "task_confidence", "prompt_embeddings"),
        description="One total order of the pool per selection seed. A budget takes its first k prompts, "
        "so a larger budget keeps every label of a smaller one.",
        parameters=ranking_parameters,
        partitions="strategy",
        kinds=frozenset({"numpy", "parquet"}),
    ),
    Stage(
        "allocation",
        make_allocation,
        deps=("ranking",),
        description="The prompts to annotate at one budget: the first `budget` ranks of each seed.",
        parameters=allocation_parameters,
        partitions="cell",
        picture=picture_allocation,
    ),
)
