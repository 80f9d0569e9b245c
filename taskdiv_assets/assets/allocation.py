"""Asset `allocation`: the prompts to annotate at one budget, which are the first prompts of each seed's ranking."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.annotating import ledger
from taskdiv_assets.cards.stored_cards import data_card_file
from taskdiv_assets.graph.asset import Asset, Needs, Settings
from taskdiv_assets.graph.cells import over_pool
from taskdiv_assets.graph.drawings import bars, counted
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import of_first_seed, task_sizes
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.pools import held_items
from taskdiv_assets.pools.discovery import evenness, labelling, validity


def make_allocation(work: Work) -> Product:
    """Select the first prompts of each seed's ranking. Raise ValueError if the pool or the ranking is smaller than the budget."""
    cell = work.cell
    if said := over_pool(work.experiment, [cell.budget_n], work.lineage.pool_size):
        raise ValueError(said)
    ranking = work.read("ranking", cell.strategy)
    depth = of_first_seed(ranking)[1].num_rows
    if cell.budget_n > depth:
        own = work.experiment.own_order(cell.strategy)
        advice = f"add prompts to {own.path}" if own else "raise `ranking_depth` in the experiment file"
        raise ValueError(
            f"budget {cell.budget_n} is deeper than the ranking of {cell.strategy}, which has {depth} prompts; {advice}"
        )
    chosen = first_of(ranking, cell.budget_n, work.lineage.cell_selection_seeds(cell))
    notes = {**cost_notes(work, chosen["prompt_id"].to_pylist()), **distance_notes(work, chosen)}
    return Product(chosen, notes, files=data_card_file(work, chosen))


def first_of(ranking: pa.Table, budget_n: int, seeds: Sequence[int]) -> pa.Table:
    """Return the rows of a ranking that belong to `seeds` and have a rank below `budget_n`, in the order of the ranking."""
    is_seed = pc.is_in(ranking["selection_seed"], value_set=pa.array(seeds, pa.int64()))
    return ranking.filter(pc.and_(pc.less(ranking["rank"], budget_n), is_seed))


def cost_notes(work: Work, prompt_ids: Sequence[str]) -> dict[str, str]:
    """Return a note with the cost of the selection's labels that have no answer yet; {} if the experiment has no price.

    If the experiment is a study and all labels have an answer, the note gives the cost of all labels.
    """
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


def distance_notes(work: Work, chosen: pa.Table) -> dict[str, float]:
    """Return notes on how evenly a list over found tasks covers the true tasks, if the pool also names these.

    The first value is the mean distance of the lists of all seeds, and the second is the expected distance of random choice
    (see `evenness`). Return {} if no tasks were found, if the strategy reads no tasks, or if a prompt has no true task.
    """
    labels = work.lineage.footer(Unit("task_labels"))
    if (
        labels is None
        or labelling.NOTE not in labels.notes
        or not work.experiment.strategy(work.cell.strategy).reads_tasks
    ):
        return {}
    # The pool's identity need not enter that of this table: the task in the source is part of a prompt's id.
    pool = work.lineage.read("raw_pool", columns=["prompt_id", "source_task"])
    true = validity.true_tasks(pool["source_task"].to_pylist())
    if true is None:
        return {}
    seeds = chosen["selection_seed"].to_numpy()
    rows = pc.index_in(chosen["prompt_id"], value_set=pool["prompt_id"].combine_chunks()).to_numpy()
    own = [evenness.list_distance(true, rows[seeds == seed]) for seed in np.unique(seeds)]
    random = evenness.random_distance(true, work.cell.budget_n)
    return {"distance_to_true_tasks": round(float(np.mean(own)), 4), "random_distance_to_true_tasks": round(random, 4)}


def allocation_parameters(work: Work) -> dict[str, Any]:
    seeds = list(work.lineage.cell_selection_seeds(work.cell))
    known = {"budget_n": work.cell.budget_n, "selection_seeds": seeds, **task_sizes(work)}
    held = held_items.read(work.store)["prompt_id"]
    return {**known, "bought_labels": bought_labels(work), "held_out_ids": held}


def bought_labels(work: Work) -> list[tuple[int, str]]:
    """Return (selection seed, prompt_id) of each label that was bought for this cell and whose prompt is in the pool."""
    entries = ledger.read(work.store)
    seeds = work.lineage.cell_selection_seeds(work.cell)
    return ledger.bought(entries, work.lineage.answers, work.cell, seeds) if entries else []


def picture_allocation(table: pa.Table, notes: Any) -> bytes:
    seed, rows = of_first_seed(table)
    counts = counted(rows["task"])
    title = f"{len(rows):,} prompts chosen from {len(counts):,} tasks, seed {seed}"
    return bars(list(counts), {"prompts": list(counts.values())}, title)


def allocation_recipe(inputs: Inputs) -> Settings:
    cell = inputs.cell
    inputs.of("ranking", cell.strategy)
    return {"budget_n": cell.budget_n, "selection_seeds": list(inputs.lineage.cell_selection_seeds(cell))}


ASSET = Asset(
    name="allocation",
    make=make_allocation,
    reads=("task_labels", "ranking"),
    recipe=allocation_recipe,
    partitioned_by="cell",
    description="The prompts to annotate at one budget: the first `budget` ranks of each seed.",
    needs=Needs(1, 4, 0, "a prefix of the order"),
    parameters=allocation_parameters,
    picture=picture_allocation,
)
