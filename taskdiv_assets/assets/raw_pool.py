"""Asset `raw_pool`: the prompts that could be annotated."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.graph import markdown
from taskdiv_assets.graph.asset import Asset, Needs, Settings
from taskdiv_assets.graph.drawings import histogram
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.control_marks import SIGNS, signs_in
from taskdiv_assets.pools import copies, held_items, levels
from taskdiv_assets.pools.frame import content_hashes
from taskdiv_assets.pools.read import read_pool
from taskdiv_assets.storage.progress import spell

NOTED = (
    "rows_read_n", "duplicates_n", "dropped_n", "drops", "repairs", "prompts_under_two_tasks_n", "responses_n",
)  # fmt: skip
MEASURED_N = 1_000_000  # number of prompts whose length the picture shows; ids are hashes, so these are a random sample


def make_raw_pool(work: Work) -> Product:
    """Read the pool from its source, and return its prompts with their ids."""
    work.log(f"reading {_source(work)}")
    started = time.monotonic()
    pool = read_pool(work.experiment.pool)
    work.log(f"{pool.table.num_rows:,} prompts read in {spell(time.monotonic() - started)}; hashing their content")
    experiment = work.experiment
    pool, items = held_items.without_items(pool, experiment.held_out, experiment.given_labels, experiment.task_labels)
    table = pool.table
    notes: dict[str, Any] = {"source": _source(work), **{name: getattr(pool, name) for name in NOTED}}
    work.log(", ".join(f"{name} {value}" for name, value in notes.items()))
    parts, files = content_hashes(table), {}
    if pool.copies.num_rows:
        stored = copies.serialised(pool.copies)
        notes[copies.NOTE], files[stored.path] = stored.path, stored.content
        parts["copies"] = copies.digest(pool.copies)
    if items.num_rows:
        held = held_items.serialised(items)
        notes[held_items.NOTE], files[held.path] = held.path, held.content
        parts["held_out"] = held_items.digest(items)
    if (level := experiment.task_labels.level) is not None:
        found = levels.of_source(experiment.pool, level, table["prompt_id"].to_pylist())
        of_level = levels.serialised(found)
        notes[levels.NOTE], files[of_level.path] = of_level.path, of_level.content
        parts["levels"] = levels.digest_of(found)
    signs = {column: signs_in(table[column]) for column in ("prompt", "response")}
    notes = {**notes, SIGNS: signs, **work.lineage.sources.noted("raw_pool")}
    lists = {"dropped_copies": pool.copies["copy_id"].to_pylist(), "held_out_ids": items["prompt_id"].to_pylist()}
    return Product(table, notes, parts, files, lists)


def lists_of_ids(work: Work) -> dict[str, Any]:
    """Return the contract parameters: the ids of duplicate prompts that were dropped, and the ids of held-out items."""
    held = {"held_out_ids": held_items.read(work.store)["prompt_id"].to_pylist()}
    return {"dropped_copies": copies.read(work.store)["copy_id"].to_pylist(), **held}


def _source(work: Work) -> str:
    pool = work.experiment.pool
    if pool.reader == "lab":
        return f"lab, seed {pool.seed}"
    return f"{pool.hub}@{pool.revision}" if pool.hub else str(pool.path)


def picture_raw_pool(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    some = table.slice(0, MEASURED_N)
    lengths = pc.utf8_length(some["prompt"]).to_numpy().astype(np.int64)
    is_answered = some["response"].is_valid().to_numpy()
    share = f"{1 - table['response'].null_count / table.num_rows:.0%} with an answer" if table.num_rows else "none"
    title = f"{table.num_rows:,} prompts, {share}"
    if len(lengths):
        title += f"; median {np.median(lengths):,.0f} characters, longest {lengths.max():,}"
    if len(some) < len(table):
        title += f" (lengths of {MEASURED_N:,})"
    parts = {"with an answer": lengths[is_answered], "without": lengths[~is_answered]}
    return histogram(parts, "length of the prompt [characters]", "prompts", title)


def drops_and_repairs(notes: Mapping[str, Any]) -> str:
    """Return a Markdown table with the numbers of dropped rows and repaired cells, by reason; a sentence if there are none."""
    kinds = {"dropped": notes["drops"], "set to null": notes["repairs"]}
    rows = [(kind, markdown.text(why), f"{n:,}") for kind, found in kinds.items() for why, n in sorted(found.items())]
    if not rows:
        return f"All {notes['rows_read_n']:,} rows were taken as they are."
    return markdown.table(("what", "why", "rows"), rows)


def raw_pool_recipe(inputs: Inputs) -> Settings:
    pool = inputs.experiment.pool
    inputs.add(inputs.lineage.sources.raw_pool())
    of_lab = {"seed", "tasks", "largest_n", "smallest_n"}
    settings = pool.model_dump(exclude={"path"} if pool.reader == "lab" else {"path", *of_lab})
    if (level := inputs.experiment.task_labels.level) is not None:
        settings["level"] = level
    held = inputs.experiment.held_out
    if held is None:
        return settings
    inputs.add(inputs.lineage.sources.for_held_out(held))
    names = {
        "from": inputs.experiment.given_labels,
        **inputs.experiment.task_labels.model_dump(include={"key", "task"}),
    }
    return {**settings, "held_out": held.model_dump(exclude={"name", "path", "generated"}), "tasks_of_held_out": names}


ASSET = Asset(
    name="raw_pool",
    make=make_raw_pool,
    recipe=raw_pool_recipe,
    description="The prompts that could be annotated: text, answer if it is known, and the source's own task. "
    "Prompt ids are made here, once.",
    needs=Needs(1, 8, 0, "texts of the pool as read and as a table"),
    parameters=lists_of_ids,
    picture=picture_raw_pool,
    summary=drops_and_repairs,
)
