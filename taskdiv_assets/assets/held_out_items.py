"""Asset `held_out_items`: the items of the benchmark `held_out`.

The items were taken out of the pool when it was read, so this table adds no item and removes none. With `answers: later`, it
adds the imported answers. These are not in the table `annotations`, so no training can read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from taskdiv_assets.graph.asset import WITHOUT_HELD_OUT, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import bars, counted
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.pools import held_items


def make_held_out_items(work: Work) -> Product:
    held = work.experiment.held_out
    pool, items = work.read("raw_pool"), held_items.read(work.store)
    if work.experiment.has_later_answers:
        items = work.lineage.held_out_items
    answered = held_items.answered(items)
    notes = {"items_n": items.num_rows, "tasks_n": len(counted(items["task"])), "pool_n": pool.num_rows}
    notes |= {"answered_n": answered.num_rows, "is_own_file": held is not None and held.path is not None}
    return Product(items, notes, {"items": held_items.digest(answered)} if answered.num_rows else {})


def picture_held_out_items(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    counts = counted(table["task"])
    title = f"{table.num_rows:,} held-out items, {len(counts):,} tasks"
    if open_n := table["response"].null_count:
        title += f"; {open_n:,} without an answer"
    return bars(list(counts), {"items": list(counts.values())}, title)


def held_out_items_recipe(inputs: Inputs) -> Settings:
    known = inputs.lineage.fresh(Unit("raw_pool")).parts
    inputs.part("raw_pool", *(name for name in ("held_out", "prompts") if name in known))
    if inputs.experiment.has_later_answers:
        inputs.add({"answers": held_items.digest(inputs.lineage.held_out_items)})
    return {}


ASSET = Asset(
    name="held_out_items",
    make=make_held_out_items,
    reads=("raw_pool", "annotations"),
    recipe=held_out_items_recipe,
    description="The items of the benchmark `held_out`: prompts that were taken out of the pool before anything else read it, "
    "and their answers.",
    needs=Needs(1, 4, 0, "few rows: a small part of the pool"),
    unless=(WITHOUT_HELD_OUT,),
    parameters=pool_ids,
    picture=picture_held_out_items,
)
