"""Asset `task_confidence`: the mean confidence of each task, from which WeightedTaskDiversity computes its weights."""

from typing import Any

import pyarrow as pa

from taskdiv_assets.confidence.effect import has_weights, sampling_effect
from taskdiv_assets.confidence.sampling import TaskMeans, task_means
from taskdiv_assets.graph.asset import WITHOUT_CONFIDENCE, Asset, Needs
from taskdiv_assets.graph.drawings import bars
from taskdiv_assets.graph.stored_values import task_codes, task_sizes, values_of
from taskdiv_assets.graph.work import Product, Work


def make_task_confidence(work: Work) -> Product:
    """Compute each task's mean confidence and standard error.

    If only a sample was scored, a note may give the share of labels that are expected to go to other tasks because of sampling.
    """
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


def _sampling_notes(work: Work, means: TaskMeans) -> dict[str, Any]:
    if work.experiment.confidence_sample is None or not has_weights(means.mean, means.pool_n):
        return {}
    budgets = [budget_n for budget_n in work.experiment.budgets if budget_n <= means.pool_n.sum()]
    effects = {budget_n: sampling_effect(means, budget_n).distance for budget_n in budgets}
    said = "; ".join(f"{distance:.1%} of {budget_n:,} labels" for budget_n, distance in effects.items())
    scored_n, pool_n = int(means.scored_n.sum()), int(means.pool_n.sum())
    text = f"{scored_n:,} of {pool_n:,} prompts scored; expected to go to other tasks than by scoring all: {said}"
    return {"sampling": text, "sampling_distance": {str(budget_n): value for budget_n, value in effects.items()}}


def spread_and_sizes(work: Work) -> dict[str, Any]:
    """Return the contract parameters: each task's size, and the smallest number of scored prompts that gives a standard error.

    This number is 2, or larger than the pool if no task has two different confidences.
    """
    labels = work.read("task_labels")
    scored = work.read("confidence_table").select(["prompt_id", "confidence"]).to_pandas()
    frame = labels.select(["prompt_id", "task"]).to_pandas().merge(scored)
    has_spread = bool((frame.groupby("task")["confidence"].nunique() > 1).any())
    return {**task_sizes(work), "estimable_from_n": 2 if has_spread else labels.num_rows + 1}


def picture_task_confidence(table: pa.Table, notes: Any) -> bytes:
    rows = sorted(table.to_pylist(), key=lambda row: row["mean_confidence"])
    errors = [row["standard_error"] or 0.0 for row in rows]
    values = {"mean confidence": [row["mean_confidence"] for row in rows]}
    return bars([row["task"] for row in rows], values, "mean confidence (bars: one standard error)", errors)


ASSET = Asset(
    name="task_confidence",
    make=make_task_confidence,
    reads=("task_labels", "confidence_table"),
    code_version=2,
    description="Mean confidence of each task with its standard error: the weights of WeightedTaskDiversity.",
    needs=Needs(1, 4, 0, "the means of one column"),
    unless=(WITHOUT_CONFIDENCE,),
    parameters=spread_and_sizes,
    picture=picture_task_confidence,
)
