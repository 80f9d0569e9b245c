"""Asset `annotation_batch`: the prompts of an allocation that have no answer yet."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from taskdiv_assets.cards.stored_cards import data_card_file
from taskdiv_assets.graph.asset import Asset, Needs, Settings
from taskdiv_assets.graph.drawings import bars, counted
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import of_first_seed
from taskdiv_assets.graph.work import Product, Work


def make_annotation_batch(work: Work) -> Product:
    """Return the allocation without the prompts whose answer is known, from the pool or from an import."""
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
    seed, rows = of_first_seed(table)
    counts = counted(rows["task"])
    return bars(list(counts), {"labels": list(counts.values())}, f"{len(rows):,} labels to buy, selection seed {seed}")


def batch_parameters(work: Work) -> dict[str, Any]:
    answers = work.lineage.answers
    answered = [prompt_id for prompt_id, answer in answers.items() if answer is not None]
    return {"answered_prompt_ids": answered, "budget_n": work.cell.budget_n}


def annotation_batch_recipe(inputs: Inputs) -> Settings:
    inputs.of("allocation", inputs.key)
    inputs.of("annotations")
    inputs.part("raw_pool", "answers")
    return {}


ASSET = Asset(
    name="annotation_batch",
    make=make_annotation_batch,
    reads=("raw_pool", "task_labels", "annotations", "allocation"),
    recipe=annotation_batch_recipe,
    partitioned_by="cell",
    description="The prompts to send to annotators: the allocation without every prompt whose answer is known.",
    needs=Needs(1, 4, 0, "rows of an allocation"),
    parameters=batch_parameters,
    picture=picture_batch,
)
