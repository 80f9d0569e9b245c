"""Asset `confidence_accuracy`: for each task, the mean confidence and the base model's accuracy on validation items."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import data_contracts
from data_contracts.shared_statistics import wilson
from taskdiv_assets.assets.confidence_table import prepare_proxy
from taskdiv_assets.confidence.measures import confidence
from taskdiv_assets.confidence.sampling import sample_places
from taskdiv_assets.graph.asset import HOLDS_7B, WITHOUT_CONFIDENCE, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import scatter
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.stored_values import task_codes
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.pools.lab import held_out_items
from taskdiv_assets.selection import parse_prompt_ids
from taskdiv_assets.services.scoring import PromptScores, load_base

Z_ROUNDED = 1.959964  # normal quantile of a 95% interval, with the digits that all stored tables were made with


class Items(NamedTuple):
    """Validation items: prompts with known answers, as columns. They contain no test items of a benchmark."""

    ids: list[str]
    prompts: list[str]
    answers: list[str]
    tasks: list[str]


def make_confidence_accuracy(work: Work) -> Product:
    """Compute per task the mean confidence, and how often the base model's greedy continuation starts with the known answer."""
    from taskdiv_assets.language_model.answers import judge

    items, own = validation_items(work), work.experiment.confidence
    if not items.ids:
        return Product(data_contracts.load("confidence_accuracy").arrow_schema.empty_table(), {"items_n": 0})
    scores = PromptScores(work, own, items.ids, items.prompts, "scoring validation items")
    scores.score(np.ones(len(items.ids), np.bool_))
    work.log(f"comparing the base's answers with those of {len(items.ids):,} validation items")
    prompts, name_of = work.render(items.prompts), items.ids.__getitem__
    judged = judge(load_base(work), prompts, items.answers, with_end=_is_lab(work), name_of=name_of)
    columns = {
        "task": items.tasks,
        "confidence": confidence(scores.columns, own.column),
        "is_right": judged.is_right.astype(np.float64),
        "answer_probability": judged.probability,
    }
    has_answer = ~np.isnan(judged.probability)  # NaN for an answer without a token in the model's vocabulary
    frame = pa.table(columns).filter(has_answer).to_pandas()
    found = frame.groupby("task").agg(
        items_n=("is_right", "size"),
        mean_confidence=("confidence", "mean"),
        accuracy=("is_right", "mean"),
        answer_probability=("answer_probability", "mean"),
    )
    notes = {"items_n": int(has_answer.sum()), "without_answer_tokens_n": int((~has_answer).sum())}
    low, high = wilson(found["accuracy"], found["items_n"], Z_ROUNDED)
    found = found.assign(accuracy_low=low, accuracy_high=high).reset_index()
    table = pa.Table.from_pandas(found, preserve_index=False)
    return Product(table.replace_schema_metadata(None).sort_by("task"), notes)


def validation_items(work: Work) -> Items:
    """Return at most `validation_items` validation items per task.

    For the lab's pool, these are generated validation items. For any other pool, they are prompts that have an answer in the
    pool, chosen by hash.
    """
    wanted_n = work.experiment.confidence.validation_items
    return _lab_items(work, wanted_n) if _is_lab(work) else _pool_items(work, wanted_n)


def _lab_items(work: Work, wanted_n: int) -> Items:
    taken: Counter[str] = Counter()
    items = Items([], [], [], [])
    for item in held_out_items("validation", work.experiment.pool.seed, work.experiment.pool.tasks):
        taken[item.task] += 1
        if taken[item.task] <= wanted_n:
            # The id is a hash of the content, because another seed gives a different item at the same position.
            name = hashlib.sha256(item.prompt.encode()).hexdigest()[:16]
            for column, value in zip(items, (name, item.prompt, item.response, item.task), strict=True):
                column.append(value)
    return items


def _pool_items(work: Work, wanted_n: int) -> Items:
    pool, labels = work.read("raw_pool"), work.read("task_labels")
    is_answered = pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(pool["response"], "")), "")
    pool, labels = pool.filter(is_answered), labels.filter(is_answered)
    codes, _ = task_codes(labels)
    is_chosen = sample_places(parse_prompt_ids(pool["prompt_id"].to_pylist()), codes) < wanted_n
    pool, labels = pool.filter(is_chosen), labels.filter(is_chosen)
    columns = (pool["prompt_id"], pool["prompt"], pool["response"], labels["task"])
    return Items(*(column.to_pylist() for column in columns))


def _is_lab(work: Work) -> bool:
    return work.experiment.pool.reader == "lab"


def picture_accuracy(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    points = {row["task"]: (row["mean_confidence"], row["accuracy"]) for row in table.to_pylist()}
    return scatter(points, "mean confidence", "share of validation items answered right")


def confidence_accuracy_recipe(inputs: Inputs) -> Settings:
    lineage, confidence = inputs.lineage, inputs.experiment.confidence
    settings: dict[str, object] = {"items": confidence.validation_items, "column": confidence.column}
    inputs.of("base_model")
    settings["scorer"] = lineage.models.scorer(confidence).identity
    pool = inputs.experiment.pool
    if pool.reader == "lab":
        settings["lab"] = [pool.seed, pool.tasks]
    else:
        settings |= lineage.held.mark(confidence.model) | lineage.held.mark(columns=("prompt", "response"))
        inputs.part("raw_pool", "answers")
        inputs.of("task_labels")
    return settings


ASSET = Asset(
    name="confidence_accuracy",
    make=make_confidence_accuracy,
    reads=("raw_pool", "task_labels", "base_model"),
    recipe=confidence_accuracy_recipe,
    description="Confidence compared with correctness, by task, on validation items of the base. For a task where the base is "
    "confident and wrong, weighting by confidence buys too few labels if the task's share is below an even one.",
    needs=Needs(2, 24, 1, f"{HOLDS_7B}; few items"),
    unless=(WITHOUT_CONFIDENCE,),
    runs_after=("confidence_table",),  # this asset then reuses the scores
    kinds=frozenset({"pytorch", "parquet"}),
    prepare=prepare_proxy,
    picture=picture_accuracy,
)
