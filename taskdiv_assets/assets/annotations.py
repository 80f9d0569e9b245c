"""The answers that were bought, and the prompts that still need one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taskdiv_assets.assets.ranking import of_first_seed
from taskdiv_assets.assets.raw_pool import pool_ids
from taskdiv_assets.cards.stored_cards import data_card_file
from taskdiv_assets.graph.drawings import bars, counted
from taskdiv_assets.graph.known_answers import newest_annotations
from taskdiv_assets.graph.stage import Product, Stage, Work

ANNOTATORS_N = 5  # that are told apart in the picture


def make_annotations(work: Work) -> Product:
    """The newest imported answer of every prompt. Imports are immutable files; this table is their union."""
    rows = newest_annotations(work.store)
    table = rows.filter(pc.is_in(rows["prompt_id"], work.read("raw_pool")["prompt_id"].combine_chunks()))
    # A prompt whose text was edited has a new id: its old answer stays in the import, and counts again if the text does.
    return Product(table, {"answers_n": table.num_rows, "not_in_pool_n": len(rows) - table.num_rows})


def picture_annotations(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Answers that count by import, the newest first, and who gave them."""
    counts = (
        table.group_by(["batch", "annotator"]).aggregate([("imported_at", "max"), ("prompt_id", "count")]).to_pylist()
    )
    times = {row["batch"]: row["imported_at_max"] for row in counts}
    batches = sorted(times, key=lambda batch: (str(times[batch]), str(batch)), reverse=True)
    names = [f"{times[batch]:%Y-%m-%d %H:%M} {str(batch)[:8]}" if times[batch] else str(batch)[:8] for batch in batches]
    by_name = counted(table["annotator"])
    shown = [*list(by_name)[:ANNOTATORS_N], *(["others"] if len(by_name) > ANNOTATORS_N else [])]
    series, places = {name: np.zeros(len(batches)) for name in shown}, {one: i for i, one in enumerate(batches)}
    for row in counts:
        name = "(none)" if row["annotator"] is None else row["annotator"]
        series[name if name in series else "others"][places[row["batch"]]] += row["prompt_id_count"]
    named = {"no name given" if name == "(none)" else name: values.tolist() for name, values in series.items()}
    return bars(names, named, f"{table.num_rows:,} answers by import (UTC, file)")


def make_annotation_batch(work: Work) -> Product:
    """The allocation minus the prompts whose answer is known, in the pool or by import."""
    answers = work.lineage.answers
    chosen = work.read("allocation", work.unit.key)
    pool = work.read("raw_pool").select(["prompt_id", "prompt"])
    is_open = pa.array([answers[prompt_id] is None for prompt_id in chosen["prompt_id"].to_pylist()], pa.bool_())
    batch = chosen.filter(is_open)
    prompts = dict(zip(pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist(), strict=True))
    texts = pa.array([prompts[prompt_id] for prompt_id in batch["prompt_id"].to_pylist()], pa.string())
    notes = {"open_n": batch.num_rows, "answered_n": chosen.num_rows - batch.num_rows}
    return Product(batch.append_column("prompt", texts), notes, files=data_card_file(work, chosen))


def picture_batch(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Labels still to buy by task, of the first seed."""
    seed, rows = of_first_seed(table)
    counts = counted(rows["task"])
    return bars(list(counts), {"labels": list(counts.values())}, f"{len(rows):,} labels to buy, selection seed {seed}")


def batch_parameters(work: Work) -> dict[str, Any]:
    """What the contract of a batch has to know: which prompts need no annotator any more."""
    answers = work.lineage.answers
    answered = [prompt_id for prompt_id, answer in answers.items() if answer is not None]
    return {"answered_prompt_ids": answered, "budget_n": work.cell.budget_n}


STAGES = (
    Stage(
        "annotations",
        make_annotations,
        deps=("raw_pool",),
        description="Answers that came back from annotators, imported by `taskdiv annotations import`. "
        "Append-only: the newest valid answer of a prompt counts.",
        parameters=pool_ids,
        picture=picture_annotations,
    ),
    Stage(
        "annotation_batch",
        make_annotation_batch,
        deps=("allocation", "raw_pool", "annotations"),
        description="What to send to annotators: the allocation minus every prompt whose answer is known.",
        parameters=batch_parameters,
        partitions="cell",
        picture=picture_batch,
    ),
)
