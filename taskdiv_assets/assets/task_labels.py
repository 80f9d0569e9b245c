"""Asset `task_labels`: the task of every prompt."""

from typing import Any

import pyarrow as pa

from taskdiv_assets.graph.asset import Asset, Needs, Settings
from taskdiv_assets.graph.drawings import bars, counted
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.pools import copies, held_items, labels


def make_task_labels(work: Work) -> Product:
    pool = work.read("raw_pool")
    experiment = work.experiment
    left_out = copies.read(work.store)["copy_id"].to_pylist() + held_items.read(work.store)["prompt_id"].to_pylist()
    table = labels.of_source(experiment.labels_from, experiment.task_labels, pool, left_out)
    if experiment.labels_from == "column":
        labels.refuse_unlabelled(table, experiment.by_task)
    return Product(table, {"tasks_n": len(table["task"].unique()), **work.lineage.sources.noted("task_labels")})


def picture_task_labels(table: pa.Table, notes: Any) -> bytes:
    counts = counted(table["task"])
    return bars(list(counts), {"prompts": list(counts.values())}, f"prompts in the pool, {len(counts):,} tasks")


def task_labels_recipe(inputs: Inputs) -> Settings:
    labels = inputs.experiment.task_labels
    inputs.part("raw_pool", "prompts")
    inputs.add(inputs.lineage.sources.task_labels())
    if labels.key is not None:  # the values of the key column may be the user's ids
        pool = inputs.lineage.fresh(Unit("raw_pool"))
        inputs.add({"raw_pool.ids": pool.parts.get("ids", pool.identity)})
    named = {name: value for name, value in (("key", labels.key), ("task", labels.task)) if value is not None}
    return {"from": inputs.experiment.labels_from, **named}


ASSET = Asset(
    name="task_labels",
    make=make_task_labels,
    reads=("raw_pool",),
    recipe=task_labels_recipe,
    description="The task of every prompt, and how it was found.",
    needs=Needs(1, 8, 0, "one column beside the pool"),
    parameters=pool_ids,
    picture=picture_task_labels,
)
