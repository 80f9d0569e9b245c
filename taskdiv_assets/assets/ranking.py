"""From scores to lists: one order of the pool per strategy and seed, and its first `budget` prompts per cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskdiv_assets.annotating import ledger
from taskdiv_assets.assets.confidence_table import task_sizes
from taskdiv_assets.assets.prompt_embeddings import read_embeddings
from taskdiv_assets.assets.ranking_plan import BY_COMPLEMENT
from taskdiv_assets.cards.stored_cards import data_card_file
from taskdiv_assets.confidence.effect import is_too_small
from taskdiv_assets.experiment.own_orders import OwnOrder
from taskdiv_assets.graph.drawings import MORE_COLOURS, areas, bars, counted
from taskdiv_assets.graph.stage import Product, Stage, Work
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.pools import copies
from taskdiv_assets.pools.labels import refuse_unlabelled
from taskdiv_assets.pools.order_files import Placed, read_order
from taskdiv_assets.selection import SelectionPool, Strategy, parse_prompt_ids, rank
from taskdiv_assets.selection.facility_location import certificates
from taskdiv_assets.selection.strategies import OWN_ORDER

CERTIFIED_PROMPTS_MAX = 50_000  # beyond, all similarities of the pool take longer than the order itself is worth
DEVICE_BYTES_PER_NUMBER = 2 + 4 + 8  # float16 as stored, float32 on the grid, float64 for dpp
FIRST_K = 10
POINTS_N = 120  # ranks at which the picture of an order looks
TASKS_MAX = 5_000  # of those, the largest: the others can hardly hold a share that is seen
DEVICE_BLOCK_BYTES = 4 * 2**30  # blocks of similarities and what is made of them

Rows = NDArray[np.int64]  # positions in the pool


def make_ranking(work: Work) -> Product:
    """Order the whole pool by one strategy, once per selection seed."""
    strategy = work.experiment.strategy(str(work.unit.key))
    own = work.experiment.own_order(strategy.name)
    placed = None if own is None else read_own_order(work, own)
    pool = on_fastest_device(selection_pool(work, strategy, placed), work.log)
    labels = work.read("task_labels").select(["prompt_id", "task"])
    depth = work.lineage.ranking_depth(strategy.name) if placed is None else placed.ranked_n
    seeds = sorted(work.experiment.selection_seeds)
    parts: list[pa.Table] = []
    order = np.empty(0, np.int64)
    kept = [positions(pool, group) for group in work.lineage.kept_first.get(strategy.name, ())]
    with work.progress("ranking", "seeds") as progress:
        for done, seed in enumerate(seeds, start=1):
            if strategy.uses_seed or not parts:
                order = put_first(order_of(work, strategy, pool, seed, depth), kept)
            rows = labels.take(pa.array(order))
            ranks = {"selection_seed": np.full(len(order), seed), "rank": np.arange(len(order))}
            parts.append(pa.table({**ranks, "prompt_id": rows["prompt_id"], "task": rows["task"]}))
            progress(done, len(seeds))
    notes: dict[str, Any] = {"strategy": strategy.name}
    if own is not None and placed is not None:
        notes |= {"source": own.path, "ranked_n": placed.ranked_n, "left_out_n": placed.left_out_n}
        notes |= work.lineage.sources.noted("ranking", own.name)
    if work.experiment.keep_annotated:
        notes["kept_first_n"] = sum(map(len, kept))
    if strategy.name == "facility_location" and len(pool.prompt_ids) <= CERTIFIED_PROMPTS_MAX:
        work.log(f"comparing all {len(pool.prompt_ids):,} prompts with the picks, to say how well these cover them")
        notes["reached"] = reached(pool, order, work.experiment.budgets)
    return Product(pa.concat_tables(parts), notes)


def read_own_order(work: Work, own: OwnOrder) -> Placed:
    """The numbers of a file of the user's own, for the prompts of the pool."""
    settings = work.experiment.pool
    own_id = settings.columns.id if settings.columns is not None else None
    dropped_n = int(work.lineage.fresh(Unit("raw_pool")).notes.get("dropped_n", 0))
    left_out_n = (
        None if settings.sample is not None else dropped_n
    )  # a hub's sample counts nothing of what it leaves out
    placed = read_order(own, work.read("raw_pool"), own_id, left_out_n, copies.kept_of(work.store))
    if placed.left_out_n:
        work.log(f"{placed.left_out_n:,} rows of {own.path} are of prompts that the pool has left out")
    return placed


def order_of(work: Work, strategy: Strategy, pool: SelectionPool, seed: int, depth: int | None) -> Rows:
    """One seed's order; a greedy one tells of its picks."""
    if not strategy.is_greedy:
        return rank(strategy, pool, seed=seed, depth=depth)
    if strategy.name == "facility_location":  # its graph may take longer than the picks
        work.log(f"seed {seed}: comparing {len(pool.prompt_ids):,} prompts with each other before the first pick")
    with work.progress(f"seed {seed}", "picks") as picking:  # a graph may be covered before the last pick
        return rank(strategy, pool, seed=seed, depth=depth, progress=picking)


def put_first(order: Rows, groups: Sequence[Rows]) -> Rows:
    """An order that begins with some rows of the pool, group by group, and goes on as it was: as long as before.

    Inside a group the order stays. Rows that it did not reach, as a greedy order that stops at a depth, come at the end of
    their group as they stand in it; as many of the last rows make room for them.

    Args:
        order: (k,) different rows of the pool, first choice first.
        groups: of different rows; none stands in two groups.

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
    """Rows of the pool that hold these prompts, in their order."""
    by_id = np.argsort(pool.prompt_ids, kind="stable")
    return by_id[np.searchsorted(pool.prompt_ids, parse_prompt_ids(prompt_ids), sorter=by_id)]


def reached(pool: SelectionPool, order: Rows, budgets: Sequence[int]) -> str:
    """How good a covering the first prompts of an order are, in words."""
    found = certificates(pool, order, sorted(budget_n for budget_n in budgets if budget_n <= len(order)))
    return "; ".join(
        f"{entry.budget_n} prompts: mean similarity {entry.mean_similarity:.4f}, "
        f"at least {entry.share_of_best_at_least:.1%} of what any {entry.budget_n} prompts reach"
        for entry in found
    )


def on_fastest_device(pool: SelectionPool, log: Callable[[str], None]) -> SelectionPool:
    """A pool whose embeddings lie on the GPU, where there is one with room; the picks are the same either way."""
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


def ranking_parameters(work: Work) -> dict[str, Any]:
    """What the contract of a ranking has to know of the pool."""
    labels = work.read("task_labels")
    own = work.experiment.own_order(str(work.unit.key))
    depth = work.lineage.ranking_depth(str(work.unit.key)) if own is None else own_depth(work, own)
    return {
        "pool_prompt_ids": labels["prompt_id"],
        "depth": min(depth, labels.num_rows),
        "selection_seeds": sorted(work.experiment.selection_seeds),
        "prompt_tasks": labels.select(["prompt_id", "task"]),
    }


def own_depth(work: Work, own: OwnOrder) -> int:
    """How many prompts a file of the user's own ranks: as noted in the ranking that was made of it, else as it is read.

    If the file is gone, a ranking that is out of date for another reason is still as deep as it was.
    """
    footer = work.lineage.footer(work.unit)
    if footer is not None and footer.identity == work.expected.identity:
        return int(footer.notes["ranked_n"])
    try:
        return read_own_order(work, own).ranked_n
    except OSError:
        if footer is None:
            raise
        return int(footer.notes["ranked_n"])


def selection_pool(work: Work, strategy: Strategy, placed: Placed | None = None) -> SelectionPool:
    """What a strategy may see of the pool, and no more than it needs; row i is row i of raw_pool."""
    needs = strategy.needs
    labels = work.read("task_labels")
    if work.experiment.labels_from == "column" and needs & {"tasks", "task_confidence"}:
        refuse_unlabelled(labels, [strategy.name])  # they may have been made when nothing read them
    task_names = sorted(labels["task"].unique().to_pylist())
    tasks = pc.index_in(labels["task"], pa.array(task_names)).to_numpy().astype(np.int32)
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
        embeddings = read_embeddings(work, work.lineage.fresh(Unit("prompt_embeddings")).identity)
    prompts = tuple(work.read("raw_pool")["prompt"].to_pylist()) if "prompts" in needs else None
    return SelectionPool(
        prompt_ids=parse_prompt_ids(labels["prompt_id"].to_pylist()),
        tasks=tasks,
        task_names=tuple(task_names),
        task_confidence=task_confidence,
        scores=scores,
        embeddings=embeddings,
        prompts=prompts,
        confidence_column=work.experiment.confidence.column if "task_confidence" in needs else "",
    )


def refuse_lost_weights(task_names: Sequence[str], means: NDArray[np.float64], column: str) -> None:
    """Refuse means of confidences so small that the table holds their floor, so that all of them look alike.

    Raises:
        ValueError: which task's, and what to do.
    """
    lost = np.flatnonzero(is_too_small(means))
    if len(lost):
        raise ValueError(
            f"the mean {column} of {len(lost)} of {len(means)} tasks is too small to be told from others, the first is task "
            f"{task_names[lost[0]]!r} with {means[lost[0]]:.3g}: the product of many tokens' probabilities has reached the "
            "least number that confidence_table holds. Choose `confidence: {column: geometric_mean}`; nothing is scored again"
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
    depth = of_first_seed(ranking)[1].num_rows
    if cell.budget_n > depth:
        own = work.experiment.own_order(cell.strategy)
        advice = f"add prompts to {own.path}" if own else "raise `ranking_depth` in the experiment file"
        raise ValueError(
            f"budget {cell.budget_n} is deeper than the ranking of {cell.strategy}, which stops at {depth} prompts; {advice}"
        )
    seeds = list(work.lineage.cell_selection_seeds(cell))
    chosen = first_of(ranking, cell.budget_n, seeds)
    notes = cost_notes(work, chosen["prompt_id"].to_pylist())
    return Product(chosen, notes, files=data_card_file(work, chosen))


def first_of(
    ranking: pa.Table,  # selection_seed, rank, …
    budget_n: int,
    seeds: Sequence[int],
) -> pa.Table:
    """The rows of some seeds' first `budget_n` ranks, as they stand."""
    is_seed = pc.is_in(ranking["selection_seed"], value_set=pa.array(seeds, pa.int64()))
    return ranking.filter(pc.and_(pc.less(ranking["rank"], budget_n), is_seed))


def cost_notes(work: Work, prompt_ids: Sequence[str]) -> dict[str, str]:
    """What the labels of a selection cost, in words, as things stood when it was made; nothing without a price."""
    annotation, budget_n = work.experiment.annotation, work.cell.budget_n
    if annotation.price is None:
        return {}
    answers = work.lineage.answers
    open_n = len({prompt_id for prompt_id in prompt_ids if answers[prompt_id] is None})
    each = f"at {annotation.unit_price} each"
    to_buy = f"{annotation.cost(open_n)} for {open_n:,} labels without an answer when this was made, {each}"
    if work.experiment.purpose == "campaign" or open_n:
        return {"cost": to_buy}
    return {"cost": f"{budget_n:,} labels would cost {annotation.cost(budget_n)} {each}; the pool has their answers"}


def allocation_parameters(work: Work) -> dict[str, Any]:
    """What the contract of an allocation has to know: budget, seeds, sizes of tasks, and the labels bought for it so far."""
    seeds = list(work.lineage.cell_selection_seeds(work.cell))
    known = {"budget_n": work.cell.budget_n, "selection_seeds": seeds, **task_sizes(work)}
    return {**known, "bought_labels": bought_labels(work)}


def bought_labels(work: Work) -> list[tuple[int, str]]:
    """Selection seed and prompt_id of every label that was bought for an allocation, as far as the pool still has it."""
    entries = ledger.read(work.store)
    seeds = work.lineage.cell_selection_seeds(work.cell)
    return ledger.bought(entries, work.lineage.answers, work.cell, seeds) if entries else []


def picture_allocation(table: pa.Table, notes: Any) -> bytes:
    """Prompts per task, of the first seed."""
    seed, rows = of_first_seed(table)
    counts = counted(rows["task"])
    title = f"{len(rows):,} prompts chosen from {len(counts):,} tasks, seed {seed}"
    return bars(list(counts), {"prompts": list(counts.values())}, title)


def of_first_seed(table: pa.Table) -> tuple[int | None, pa.Table]:
    """The first selection seed of a table of selections, and its rows."""
    if not table.num_rows:
        return None, table
    seed = table["selection_seed"][0]
    return seed.as_py(), table.filter(pc.equal(table["selection_seed"], seed))


def picture_ranking(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Which tasks the first k prompts of an order come from, for every k: where strategies differ."""
    seed, rows = of_first_seed(table)
    if not rows.num_rows:
        return b""
    ks, names, shares = shares_of_first(rows["task"], len(MORE_COLOURS))
    rest_n = len(pc.unique(rows["task"])) - len(names)
    shown = dict(zip(names, shares[:-1], strict=True))
    others = (f"{rest_n:,} other tasks", shares[-1]) if rest_n else None
    title = f"tasks of the first k prompts of {rows.num_rows:,}, seed {seed}"
    return areas(ks, shown, "k, the budget [prompts]", "share of the first k", title, others)


def shares_of_first(
    tasks: pa.ChunkedArray,  # (n,) in rank order
    named_n: int,
) -> tuple[NDArray[np.int64], list[str], NDArray[np.float64]]:  # (k,) budgets; names; (names + 1, k), the others last
    """Shares of some tasks in the first k prompts: of those with the largest ones on average over log k.

    The first `FIRST_K` say little of an order: where there are many more, the shares begin behind them.

    >>> ks, names, shares = shares_of_first(pa.chunked_array([["a", "b", "a", "c"]]), 2)
    >>> ks.tolist(), names, shares[:, -1].tolist()
    ([1, 2, 3, 4], ['a', 'b'], [0.5, 0.25, 0.25])
    """
    encoded = tasks.dictionary_encode(null_encoding="encode").combine_chunks()
    names = ["(none)" if name is None else str(name) for name in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    largest = np.argsort(-np.bincount(codes, minlength=len(names)), kind="stable")[:TASKS_MAX]
    place = np.full(len(names), len(largest))
    place[largest] = np.arange(len(largest))
    first = FIRST_K if len(codes) >= 10 * FIRST_K else 1
    ks = np.unique(np.rint(np.geomspace(first, len(codes), POINTS_N)).astype(np.int64))
    bins = np.searchsorted(ks, np.arange(len(codes)), side="right")  # rank 0 is among the first 1
    cells = np.bincount(place[codes] * len(ks) + bins, minlength=(len(largest) + 1) * len(ks))
    shares = cells.reshape(len(largest) + 1, len(ks)).cumsum(axis=1) / ks
    top = np.sort(np.argsort(-shares[:-1].mean(axis=1), kind="stable")[:named_n])
    return ks, [names[largest[one]] for one in top], np.vstack([shares[top], 1 - shares[top].sum(axis=0)])


STAGES = (
    Stage(
        "ranking",
        make_ranking,
        deps=("raw_pool", "task_labels", "annotations", "confidence_table", "task_confidence", "prompt_embeddings"),
        description="One total order of the pool per selection seed. A budget takes its first k prompts, "
        "so a larger budget keeps every label of a smaller one. With `keep_annotated`, prompts that were annotated "
        "come first.",
        parameters=ranking_parameters,
        partitions="strategy",
        picture=picture_ranking,
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
