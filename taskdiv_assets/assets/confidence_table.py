"""How sure the base model is: of every prompt, or of a sample of each task; and of each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taskdiv_assets.confidence.effect import Counts, has_weights, sampling_effect
from taskdiv_assets.confidence.measures import confidence
from taskdiv_assets.confidence.sampling import TaskMeans, next_sizes, sample_places, task_means
from taskdiv_assets.experiment import Sampling
from taskdiv_assets.graph.drawings import bars, histogram
from taskdiv_assets.graph.lineage import LEAST
from taskdiv_assets.graph.stage import Product, Stage, Work
from taskdiv_assets.selection import parse_prompt_ids
from taskdiv_assets.services.scoring import PromptScores, resolve_proxies

NAMED_N = 5  # prompts that metadata names
NO_LIMIT = 2**30  # tokens of a prompt: without the model nobody knows its context


def make_confidence_table(work: Work) -> Product:
    """How sure the model is of the prompts: of all, or of as many of each task as the experiment asks for."""
    scores, rows = scored_pool(work)
    columns = {name: values[rows] for name, values in scores.columns.items()}
    chosen = confidence(columns, work.experiment.confidence.column)
    table = pa.table({"prompt_id": scores.prompt_ids[rows].tolist(), **columns, "confidence": chosen})
    cut = scores.prompt_ids[rows][scores.is_cut[rows]]
    tokens_n, score_s = int(columns["generated_n"].sum()), float(scores.seconds[rows].sum())
    is_generated = work.experiment.confidence.of == "continuation"
    notes = {
        "scored_n": len(rows),
        "pool_n": len(scores.prompt_ids),
        "truncated_prompts_n": len(cut),
        "truncated_prompts": ", ".join(cut[:NAMED_N].tolist()),
        "ended_at_once_n": int(((columns["generated_n"] == 1) & ~columns["truncated"]).sum()) if is_generated else 0,
        "tokens_n": tokens_n,
        "score_s": round(score_s, 3),
        "halvings_n": scores.halvings_n,
        LEAST: float(columns["sequence_log_probability"].min()) if len(rows) else None,
    }
    if score_s:
        notes |= {"tokens_per_s": round(tokens_n / score_s, 1), "prompts_per_s": round(len(rows) / score_s, 1)}
    return Product(table, notes)


def scored_pool(work: Work) -> tuple[PromptScores, NDArray[np.int64]]:
    """The scores of the pool's prompts and which of them count, sorted; what is not scored yet is scored."""
    scores = PromptScores.of_pool(work, work.experiment.confidence, "scoring prompts")
    wanted = np.zeros(len(scores.prompts), np.bool_)
    for wanted in rounds(work, scores):
        scores.score(wanted)
    return scores, np.flatnonzero(wanted)


def rounds(work: Work, scores: PromptScores) -> Iterator[NDArray[np.bool_]]:
    """Which prompts to have scored, round after round, each more than the last: one round without a tolerance.

    With a tolerance, the next round follows from the scores of the one before, which have to be there by then.
    """
    sample = work.experiment.confidence_sample
    if sample is None:
        yield np.ones(len(scores.prompt_ids), np.bool_)
        return
    codes, _ = task_codes(work.read("task_labels"))
    places, sizes = sample_places(parse_prompt_ids(scores.prompt_ids.tolist()), codes), np.bincount(codes)
    aims = np.minimum(sample if isinstance(sample, int) else sample.first, sizes)
    yield places < aims[codes]
    if isinstance(sample, int):
        return
    while ((further := _further(work, scores, codes, places < aims[codes], sample)) > aims).any():
        open_n = int((further > aims).sum())
        work.log(f"{open_n} of {len(sizes)} tasks are not known within {sample.tolerance:.1%} yet: more of them")
        aims = further
        yield places < aims[codes]


def _further(work: Work, scores: PromptScores, codes: Counts, wanted: NDArray[np.bool_], sample: Sampling) -> Counts:
    values = np.full(len(codes), np.nan)
    known = {name: column[wanted] for name, column in scores.columns.items()}
    values[wanted] = confidence(known, work.experiment.confidence.column)
    return next_sizes(task_means(codes, values, int(codes.max()) + 1), sample.tolerance, sample.level, sample.first)


def picture_confidence(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """How sure the base is of the prompts, and of which the answer was cut at the most tokens it may have."""
    values = table["confidence"].to_numpy()
    is_cut = pc.fill_null(table["truncated"], False).to_numpy()
    finite = values[np.isfinite(values)]
    title = f"{len(values):,} prompts scored, {is_cut.mean():.0%} cut at the limit of tokens" if len(values) else "none"
    if len(finite):
        title += f"; median confidence {np.median(finite):.3g}"
    parts = {"ended by itself": values[~is_cut], "cut": values[is_cut]}
    return histogram(parts, "confidence", "prompts", title, limits=(0.0, 1.0))


def task_codes(labels: pa.Table) -> tuple[Counts, list[str]]:
    """Task of each prompt as a position in the sorted names."""
    names = sorted(labels["task"].unique().to_pylist())
    return pc.index_in(labels["task"], pa.array(names, pa.string())).to_numpy().astype(np.int64), names


def scored_prompts(work: Work) -> dict[str, Any]:
    """What the contract of confidence_table has to know. Nothing is scored for it.

    Raises:
        FileNotFoundError: with a tolerance, which prompts a sample holds follows from scores that are no longer there.
    """
    settings = work.experiment.confidence
    scores = PromptScores.of_pool(work, settings, "")
    wanted = np.zeros(len(scores.prompt_ids), np.bool_)
    for wanted in rounds(work, scores):
        if isinstance(work.experiment.confidence_sample, Sampling) and not scores.is_known[wanted].all():
            raise FileNotFoundError(
                f"the scores by which the sample was drawn are no longer in {work.store.locate('scores', scores.identity)}; "
                f"run `taskdiv run {work.experiment.name} --until confidence_table`"
            )
    return {
        "scored_prompt_ids": scores.prompt_ids[wanted].tolist(),
        "definition": settings.column,
        "max_tokens": settings.max_new_tokens if settings.of == "continuation" else NO_LIMIT,
    }


def make_task_confidence(work: Work) -> Product:
    """Mean confidence of each task with its standard error, and what sampling leaves open."""
    labels = work.read("task_labels")
    codes, names = task_codes(labels)
    means = task_means(codes, values_of(labels, work.read("confidence_table"), "confidence"), len(names))
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


def values_of(labels: pa.Table, scored: pa.Table, column: str) -> NDArray[np.float64]:
    """A column of scored prompts in the order of the labels, NaN where a prompt was not scored."""
    places = pc.index_in(labels["prompt_id"], value_set=scored["prompt_id"].combine_chunks())
    values: NDArray[np.float64] = scored[column].combine_chunks().take(places).to_numpy(zero_copy_only=False)
    return values


def _sampling_notes(work: Work, means: TaskMeans) -> dict[str, Any]:
    if work.experiment.confidence_sample is None or not has_weights(means.mean, means.pool_n):
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


def spread_and_sizes(work: Work) -> dict[str, Any]:
    """What the contract of task_confidence has to know: each task's size, and from how many scored prompts on it has an error.

    That is two, unless every task's scored prompts are equally confident; then no number says anything of the others.
    """
    labels, scored = work.read("task_labels"), work.read("confidence_table")
    frame = (
        labels.select(["prompt_id", "task"]).to_pandas().merge(scored.select(["prompt_id", "confidence"]).to_pandas())
    )
    has_spread = bool((frame.groupby("task")["confidence"].nunique() > 1).any())
    return {**task_sizes(work), "estimable_from_n": 2 if has_spread else labels.num_rows + 1}


def picture_task_confidence(table: pa.Table, notes: Any) -> bytes:
    """Mean confidence by task, least confident first."""
    rows = sorted(table.to_pylist(), key=lambda row: row["mean_confidence"])
    errors = [row["standard_error"] or 0.0 for row in rows]
    values = {"mean confidence": [row["mean_confidence"] for row in rows]}
    return bars([row["task"] for row in rows], values, "mean confidence (bars: one standard error)", errors)


STAGES = (
    Stage(
        "confidence_table",
        make_confidence_table,
        deps=("raw_pool", "task_labels", "base_model"),
        description="What the base model's own greedy continuation of each prompt looked like: probabilities, entropy, "
        "margins, and `confidence` in (0, 1]. With `confidence_sample`, a part of each task.",
        parameters=scored_prompts,
        picture=picture_confidence,
        kinds=frozenset({"pytorch", "parquet"}),
        needs_model=True,
        prepare=lambda work: resolve_proxies(work, [work.experiment.confidence]),
    ),
    Stage(
        "task_confidence",
        make_task_confidence,
        deps=("task_labels", "confidence_table"),
        description="Mean confidence of each task with its standard error: the weights of WeightedTaskDiversity.",
        parameters=spread_and_sizes,
        picture=picture_task_confidence,
    ),
)
