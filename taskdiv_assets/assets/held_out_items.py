"""Asset `held_out_items`: the items of the benchmark `held_out`, with the number of their near-duplicates in the pool.

The items were taken out of the pool when it was read, so this table adds no item and removes none.
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
from taskdiv_assets.pools import held_items, overlap


def make_held_out_items(work: Work) -> Product:
    pool, items = work.read("raw_pool"), held_items.read(work.store)
    exact_n, near_n = overlap.counts(pool["prompt"].to_pylist(), items["prompt"].to_pylist())
    table = items.append_column("exact_n", pa.array(exact_n, pa.int64()))
    table = table.append_column("near_n", pa.array(near_n, pa.int64()))
    notes = {"items_n": items.num_rows, "tasks_n": len(counted(items["task"])), "pool_n": pool.num_rows}
    held = work.experiment.held_out
    notes |= {"exact_n": sum(exact_n), "near_n": sum(near_n), "is_own_file": held is not None and held.path is not None}
    return Product(table, notes, {"items": held_items.digest(items)})


def picture_held_out_items(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    counts = counted(table["task"])
    title = f"{table.num_rows:,} held-out items, {len(counts):,} tasks"
    return bars(list(counts), {"items": list(counts.values())}, title)


def held_out_items_recipe(inputs: Inputs) -> Settings:
    known = inputs.lineage.fresh(Unit("raw_pool")).parts
    inputs.part("raw_pool", *(name for name in ("held_out", "prompts") if name in known))
    return {}


ASSET = Asset(
    name="held_out_items",
    make=make_held_out_items,
    reads=("raw_pool",),
    recipe=held_out_items_recipe,
    description="The items of the benchmark `held_out`: answered prompts that were taken out of the pool before anything "
    "else read it, and how many near-duplicates of each item the pool still has.",
    needs=Needs(1, 8, 0, "word 8-grams of the items; the prompts of the pool, read once"),
    unless=(WITHOUT_HELD_OUT,),
    parameters=pool_ids,
    picture=picture_held_out_items,
)
