"""What the base model makes of the pool: how sure it is of every prompt and task, and whether it is right to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskdiv_assets.assets.pictures import bars, scatter
from taskdiv_assets.assets.scoring import PromptScores, load_base
from taskdiv_assets.assets.stage import Product, Stage, Work
from taskdiv_assets.confidence.definitions import DEFINITIONS, confidence
from taskdiv_assets.confidence.effect import Counts, sampling_effect, weighted_allocation
from taskdiv_assets.confidence.sampling import TaskMeans, next_sizes, sample_places, task_means
from taskdiv_assets.experiment import CHOSEN_SOURCE, Sampling
from taskdiv_assets.language_model.confidence import empty_columns
from taskdiv_assets.pools.lab import held_out_items
from taskdiv_assets.selection import parse_prompt_ids

NAMED_N = 5  # prompts that metadata names


def make_confidence_table(work: Work) -> Product:
    """How sure the model is of the prompts: of all, or of as many of each task as the experiment asks for."""
    scores, rows = scored_pool(work)
    columns = {name: values[rows] for name, values in scores.columns.items()}
    chosen = confidence(columns, work.experiment.confidence.column)
    table = pa.table({"prompt_id": scores.prompt_ids[rows].tolist(), **columns, "confidence": chosen})
    cut = scores.prompt_ids[rows][scores.is_cut[rows]]
    tokens_n = int(columns["generated_n"].sum())
    notes = {
        "scored_n": len(rows),
        "pool_n": len(scores.prompt_ids),
        "truncated_prompts_n": len(cut),
        "truncated_prompts": ", ".join(cut[:NAMED_N].tolist()),
        "ended_at_once_n": int(((columns["generated_n"] == 1) & ~columns["truncated"]).sum()),
        "tokens_n": tokens_n,
        "score_s": round(scores.score_s, 3),
        "halvings_n": scores.halvings_n,
    }
    if scores.score_s:
        notes |= {
            "tokens_per_s": round(tokens_n / scores.score_s, 1),
            "prompts_per_s": round(len(rows) / scores.score_s, 1),
        }
    return Product(table, notes)


def scored_pool(work: Work) -> tuple[PromptScores, NDArray[np.int64]]:
    """The scores of the pool's prompts and which of them count, sorted; what is not scored yet is scored.

    With a tolerance, tasks are scored round by round until each one's interval is narrow enough.
    """
    pool, sample = work.read("raw_pool"), work.experiment.confidence_sample
    ids = pool["prompt_id"].to_pylist()
    scores = PromptScores(work, work.experiment.confidence, ids, pool["prompt"].to_pylist(), "scoring prompts")
    if sample is None:
        wanted = np.ones(len(ids), np.bool_)
        scores.score(wanted)
        return scores, np.flatnonzero(wanted)
    codes, names = task_codes(work.read("task_labels"))
    places, sizes = sample_places(parse_prompt_ids(ids), codes), np.bincount(codes)
    aims = np.minimum(sample if isinstance(sample, int) else sample.first, sizes)
    while True:
        wanted = places < aims[codes]
        scores.score(wanted)
        further = aims if isinstance(sample, int) else _further(work, scores, codes, wanted, sample)
        if (further <= aims).all():
            return scores, np.flatnonzero(wanted)
        open_n = int((further > aims).sum())
        work.log(f"{open_n} of {len(names)} tasks are not known within {sample.tolerance:.1%} yet: scoring more of them")  # type: ignore[union-attr]  # a number ended above
        aims = further


def _further(work: Work, scores: PromptScores, codes: Counts, wanted: NDArray[np.bool_], sample: Sampling) -> Counts:
    values = np.full(len(codes), np.nan)
    known = {name: column[wanted] for name, column in scores.columns.items()}
    values[wanted] = confidence(known, work.experiment.confidence.column)
    return next_sizes(task_means(codes, values, int(codes.max()) + 1), sample.tolerance, sample.level, sample.first)


def task_codes(labels: pa.Table) -> tuple[Counts, list[str]]:
    """Task of each prompt as a position in the sorted names."""
    names = sorted(labels["task"].unique().to_pylist())
    return pc.index_in(labels["task"], pa.array(names)).to_numpy().astype(np.int64), names


def scored_prompts(work: Work) -> dict[str, Any]:
    """What the contract of confidence_table has to know. Which prompts a sample holds follows from the scores kept."""
    settings = work.experiment.confidence
    scores, rows = scored_pool(work)
    longest_n = settings.max_new_tokens if settings.of == "continuation" else int(scores.columns["generated_n"].max())
    return {
        "scored_prompt_ids": scores.prompt_ids[rows].tolist(),
        "definition": settings.column,
        "max_tokens": longest_n,
    }


def make_task_confidence(work: Work) -> Product:
    """Mean confidence of each task with its standard error, and what sampling leaves open."""
    labels = work.read("task_labels")
    codes, names = task_codes(labels)
    means = task_means(codes, _values(labels, work.read("confidence_table"), "confidence"), len(names))
    table = pa.table(
        {
            "task": names,
            "pool_n": means.pool_n,
            "scored_n": means.scored_n,
            "mean_confidence": means.mean,
            "standard_error": pa.array(means.standard_error, from_pandas=True),
        }
    )
    return Product(table, _sampling_notes(work, means))


def _values(labels: pa.Table, scored: pa.Table, column: str) -> NDArray[np.float64]:
    """A column of scored prompts in the order of the labels, NaN where a prompt was not scored."""
    places = pc.index_in(labels["prompt_id"], value_set=scored["prompt_id"].combine_chunks())
    values: NDArray[np.float64] = scored[column].combine_chunks().take(places).to_numpy(zero_copy_only=False)
    return values


def _sampling_notes(work: Work, means: TaskMeans) -> dict[str, Any]:
    if work.experiment.confidence_sample is None:
        return {}
    budgets = [budget_n for budget_n in work.experiment.budgets if budget_n <= means.pool_n.sum()]
    effects = {budget_n: sampling_effect(means, budget_n).distance for budget_n in budgets}
    said = "; ".join(f"{distance:.1%} of {budget_n:,} labels" for budget_n, distance in effects.items())
    scored_n, pool_n = int(means.scored_n.sum()), int(means.pool_n.sum())
    text = f"{scored_n:,} of {pool_n:,} prompts scored; expected to go to other tasks than by scoring all: {said}"
    return {"sampling": text, "sampling_distance": {str(budget_n): value for budget_n, value in effects.items()}}


def task_sizes(work: Work) -> dict[str, Any]:
    """Prompts per task in the whole pool."""
    counts = work.read("task_labels")["task"].value_counts().to_pylist()
    return {"pool_task_sizes": {entry["values"]: entry["counts"] for entry in counts}}


def picture_task_confidence(table: pa.Table, notes: Any) -> bytes:
    """Mean confidence by task, least confident first."""
    rows = sorted(table.to_pylist(), key=lambda row: row["mean_confidence"])
    errors = [row["standard_error"] or 0.0 for row in rows]
    values = {"mean confidence": [row["mean_confidence"] for row in rows]}
    return bars([row["task"] for row in rows], values, "mean confidence (bars: one standard error)", errors)


# --- what another source or definition would change --------------------------------------------------------------


class Variant(NamedTuple):
    """One way to know the tasks' confidences."""

    source: str
    definition: str
    means: TaskMeans
    score_s: float
    is_chosen: bool


def make_confidence_comparison(work: Work) -> Product:
    """Mean confidence and allocation of each task by every source and definition, at each budget of the experiment."""
    _, names = task_codes(work.read("task_labels"))
    parts = []
    for variant in _variants(work):
        for budget_n in sorted(n for n in work.experiment.budgets if n <= variant.means.pool_n.sum()):
            parts.append(_compared(variant, budget_n, names))
    table = pa.concat_tables(parts) if parts else COMPARISON_SCHEMA.empty_table()
    return Product(table.sort_by([(name, "ascending") for name in ("source", "definition", "budget_n", "task")]))


def _compared(variant: Variant, budget_n: int, names: list[str]) -> pa.Table:
    means, tasks_n = variant.means, len(names)
    is_sampled = bool((means.scored_n < means.pool_n).any())
    effect = sampling_effect(means, budget_n) if is_sampled else None
    columns = {
        "source": [variant.source] * tasks_n,
        "definition": [variant.definition] * tasks_n,
        "budget_n": [budget_n] * tasks_n,
        "task": names,
        "is_chosen": [variant.is_chosen] * tasks_n,
        "mean_confidence": means.mean,
        "standard_error": pa.array(means.standard_error, from_pandas=True),
        "allocated_n": weighted_allocation(means.mean, means.pool_n, budget_n),
        "allocated_low_n": effect.low if effect else [None] * tasks_n,
        "allocated_high_n": effect.high if effect else [None] * tasks_n,
        "distance_by_sampling": [effect.distance if effect else 0.0] * tasks_n,
        "score_s": [variant.score_s] * tasks_n,
    }
    return pa.table({name: pa.array(columns[name], COMPARISON_SCHEMA.field(name).type) for name in columns})


def _variants(work: Work) -> Iterator[Variant]:
    """The chosen source by all definitions, then each alternative by the experiment's own, over the same prompts."""
    labels, scored = work.read("task_labels"), work.read("confidence_table")
    codes, names = task_codes(labels)
    own = work.experiment.confidence
    columns = {name: _values(labels, scored, name) for name in empty_columns(0)}
    seconds = float(work.lineage.fresh(work.unit._replace(asset="confidence_table")).notes["score_s"])
    for definition in DEFINITIONS:
        means = task_means(codes, confidence(columns, definition), len(names))
        yield Variant(CHOSEN_SOURCE, definition, means, seconds, definition == own.column)
    pool = work.read("raw_pool")
    wanted = pc.is_in(labels["prompt_id"], value_set=scored["prompt_id"].combine_chunks()).to_numpy(zero_copy_only=False)
    for entry in own.alternatives:
        ids, prompts = pool["prompt_id"].to_pylist(), pool["prompt"].to_pylist()
        scores = PromptScores(work, entry, ids, prompts, f"scoring prompts for {entry.name}")
        scores.score(wanted)
        values = np.where(wanted, confidence(scores.columns, own.column), np.nan)
        yield Variant(entry.name, own.column, task_means(codes, values, len(names)), scores.score_s, False)


def compared_variants(work: Work) -> dict[str, Any]:
    """What the contract of the comparison has to know: how many rows there are, and each task's size."""
    budgets = [n for n in work.experiment.budgets if n <= work.read("task_labels").num_rows]
    variants_n = len(DEFINITIONS) + len(work.experiment.confidence.alternatives)
    return {**task_sizes(work), "rows_per_task": variants_n * len(budgets)}


# --- confident and right? ----------------------------------------------------------------------------------------


class Items(NamedTuple):
    """Prompts with known answers, to hold confidence against being right; never a benchmark's test items."""

    ids: list[str]
    prompts: list[str]
    answers: list[str]
    tasks: list[str]


def make_confidence_accuracy(work: Work) -> Product:
    """Of validation items: how sure the model is, and how often the base's greedy continuation is the answer."""
    from taskdiv_assets.language_model.answers import judge

    items, own = validation_items(work), work.experiment.confidence
    if not items.ids:
        return Product(ACCURACY_SCHEMA.empty_table(), {"items_n": 0})
    scores = PromptScores(work, own, items.ids, items.prompts, "scoring validation items")
    scores.score(np.ones(len(items.ids), np.bool_))
    judged = judge(load_base(work), work.render(items.prompts), items.answers, with_end=_is_lab(work))
    frame = pa.table(
        {
            "task": items.tasks,
            "confidence": confidence(scores.columns, own.column),
            "is_right": judged.is_right.astype(np.float64),
            "answer_probability": judged.probability,
        }
    ).to_pandas()
    found = frame.groupby("task").agg(
        items_n=("is_right", "size"),
        mean_confidence=("confidence", "mean"),
        accuracy=("is_right", "mean"),
        answer_probability=("answer_probability", "mean"),
    )
    low, high = wilson(found["accuracy"].to_numpy(), found["items_n"].to_numpy())
    found = found.assign(accuracy_low=low, accuracy_high=high).reset_index()
    table = pa.Table.from_pandas(found[ACCURACY_SCHEMA.names], schema=ACCURACY_SCHEMA, preserve_index=False)
    return Product(table.replace_schema_metadata(None).sort_by("task"), {"items_n": len(items.ids)})


def validation_items(work: Work) -> Items:
    """The lab's validation items; elsewhere prompts of the pool whose answer is known, a hash-chosen few of each task."""
    wanted_n, pool_settings = work.experiment.confidence.validation_items, work.experiment.pool
    if _is_lab(work):
        found = held_out_items("validation", pool_settings.seed, pool_settings.tasks)
        place = {task: 0 for task in {item.task for item in found}}
        kept = []
        for item in found:
            place[item.task] += 1
            if place[item.task] <= wanted_n:
                kept.append(item)
        return Items(*map(list, zip(*((i.item_id, i.prompt, i.response, i.task) for i in kept), strict=True))) if kept else Items([], [], [], [])
    pool = work.read("raw_pool")
    labels = work.read("task_labels")
    answered = pc.and_(pc.is_valid(pool["response"]), pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(pool["response"], "")), ""))
    pool, labels = pool.filter(answered), labels.filter(answered)
    if not pool.num_rows:
        return Items([], [], [], [])
    codes, _ = task_codes(labels)
    is_chosen = sample_places(parse_prompt_ids(pool["prompt_id"].to_pylist()), codes) < wanted_n
    pool, labels = pool.filter(is_chosen), labels.filter(is_chosen)
    columns = (pool["prompt_id"], pool["prompt"], pool["response"], labels["task"])
    return Items(*(column.to_pylist() for column in columns))


def _is_lab(work: Work) -> bool:
    return work.experiment.pool.reader == "lab"


def wilson(share: NDArray[np.float64], items_n: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95% interval of a share (Wilson, 1927): within 0..1, and of some width even where all or none are right.

    >>> low, high = wilson(np.array([0.0]), np.array([20]))
    >>> float(low[0]), round(float(high[0]), 3)
    (0.0, 0.161)
    """
    z = 1.959964
    middle = (share + z**2 / (2 * items_n)) / (1 + z**2 / items_n)
    half = z / (1 + z**2 / items_n) * np.sqrt(share * (1 - share) / items_n + z**2 / (4 * items_n**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def picture_accuracy(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Accuracy against confidence, a mark a task."""
    rows = table.to_pylist()
    points = {row["task"]: (row["mean_confidence"], row["accuracy"]) for row in rows}
    return scatter(points, "mean confidence", "share of validation items answered right")


COMPARISON_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("definition", pa.string()),
        ("budget_n", pa.int64()),
        ("task", pa.string()),
        ("is_chosen", pa.bool_()),
        ("mean_confidence", pa.float64()),
        ("standard_error", pa.float64()),
        ("allocated_n", pa.int64()),
        ("allocated_low_n", pa.int64()),
        ("allocated_high_n", pa.int64()),
        ("distance_by_sampling", pa.float64()),
        ("score_s", pa.float64()),
    ]
)
ACCURACY_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("items_n", pa.int64()),
        ("mean_confidence", pa.float64()),
        ("accuracy", pa.float64()),
        ("accuracy_low", pa.float64()),
        ("accuracy_high", pa.float64()),
        ("answer_probability", pa.float64()),
    ]
)
STAGES = (
    Stage(
        "confidence_table",
        make_confidence_table,
        deps=("raw_pool", "task_labels", "base_model"),
        description="What the base model's own greedy continuation of each prompt looked like: probabilities, entropy, "
        "margins, and `confidence` in (0, 1]. With `confidence_sample`, a part of each task.",
        parameters=scored_prompts,
        kinds=frozenset({"pytorch", "parquet"}),
        needs_model=True,
    ),
    Stage(
        "task_confidence",
        make_task_confidence,
        deps=("task_labels", "confidence_table"),
        description="Mean confidence of each task with its standard error: the weights of WeightedTaskDiversity.",
        parameters=task_sizes,
        picture=picture_task_confidence,
    ),
    Stage(
        "confidence_comparison",
        make_confidence_comparison,
        deps=("raw_pool", "task_labels", "base_model", "confidence_table"),
        description="What other definitions of confidence, or cheaper ways to get it, would change: each task's mean "
        "confidence and its count under WeightedTaskDiversity.",
        parameters=compared_variants,
        kinds=frozenset({"pytorch", "parquet"}),
        needs_model=True,
    ),
    Stage(
        "confidence_accuracy",
        make_confidence_accuracy,
        deps=("raw_pool", "task_labels", "base_model"),
        description="Confidence against being right, by task, on validation items of the base: where it is confident and "
        "wrong, weighting by confidence buys too few labels.",
        kinds=frozenset({"pytorch", "parquet"}),
        needs_model=True,
        picture=picture_accuracy,
    ),
)
