"""Asset `annotations`: the imported answers of annotators."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reports import annotator_agreement as agreement
from taskdiv_assets.annotating.model_answers import file_replies
from taskdiv_assets.annotating.replies import kinds
from taskdiv_assets.graph.asset import Asset, Needs, Settings
from taskdiv_assets.graph.drawings import bars, counted
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.known_answers import MODEL_FILE, answers_by_person, counting_annotations, differing
from taskdiv_assets.graph.stored_values import pool_ids
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.pools import held_items
from taskdiv_assets.storage.identity import digest

ANNOTATORS_N = 5  # number of annotators that the picture names


def make_annotations(work: Work) -> Product:
    """Return the imported answers that count, for prompts of the pool. Imported files never change."""
    rows = counting_annotations(work.store, work.experiment.annotation.adjudicator)
    held = held_items.read(work.store)
    table = rows.filter(pc.is_in(rows["prompt_id"], work.read("raw_pool")["prompt_id"].combine_chunks()))
    # An edited prompt has a new id. Its old answer stays in the imported file, and is used again if the edit is undone.
    held_n = pc.sum(pc.is_in(rows["prompt_id"], held["prompt_id"].combine_chunks())).as_py() or 0
    counts = {"not_in_pool_n": len(rows) - table.num_rows - held_n, "held_out_n": held_n}
    return Product(table, {"answers_n": table.num_rows, **counts, **model_notes(work)})


def model_notes(work: Work) -> dict[str, Any]:
    """Return counts of all replies of annotating models, also of those that are no answers; empty if no model was asked."""
    replies = file_replies(work.store)
    counted = [reply for reply in replies if reply.is_paid]
    tokens = {name: sum(getattr(one, name) or 0 for one in counted) for name in ("input_tokens", "output_tokens")}
    models = sorted({reply.model for reply in counted})
    totals = {"kinds": kinds(replies), "replies_n": len(counted), "models": models, **tokens}
    return {"model_replies": totals} if replies else {}


def rule_parameters(work: Work) -> dict[str, Any]:
    """Return the contract parameters: ids, the declared sources of answers, and a sentence if annotators agree too little."""
    sources = ["human", *(["model"] if work.experiment.annotation.annotator else [])]
    found = agreement.agreement(answers_by_person(work.store).values())
    low = [f"alpha {found.alpha.estimate:.2f} on {found.short_n:,} short answers"] if agreement.is_low(found) else []
    held_out_ids = held_items.read(work.store)["prompt_id"].to_pylist()
    return {**pool_ids(work), "held_out_ids": held_out_ids, "sources": sources, "low_agreement": low}


def picture_annotations(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Draw how many answers of the table each import gave, the newest import first. Colours show the most frequent annotators."""
    groups = table.group_by(["batch", "annotator"])
    counts = groups.aggregate([("imported_at", "max"), ("prompt_id", "count")]).to_pylist()
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


def annotations_recipe(inputs: Inputs) -> Settings:
    lineage = inputs.lineage
    files = [name for name in lineage.store.names("annotations") if name.endswith(".parquet")]
    pool = lineage.fresh(Unit("raw_pool")).parts
    inputs.part("raw_pool", "prompts", *(["copies"] if "copies" in pool else []))
    inputs.add({"files": digest(files)})
    if inputs.experiment.annotation.annotator is None and any(name.startswith(MODEL_FILE) for name in files):
        inputs.add(
            {"has_undeclared_model": "yes"}
        )  # then the stored table is stale, and the contract refuses a new one
    adjudicator = inputs.experiment.annotation.adjudicator
    return {"adjudicator": adjudicator} if adjudicator is not None and differing(lineage.store) else {}


ASSET = Asset(
    name="annotations",
    make=make_annotations,
    reads=("raw_pool",),
    recipe=annotations_recipe,
    description="Answers that came back from annotators, imported by `taskdiv annotations import`. "
    "Append-only: the newest valid answer of a prompt counts, or that of an adjudicator.",
    needs=Needs(1, 4, 0, "few rows: answers that were bought"),
    parameters=rule_parameters,
    picture=picture_annotations,
)
