"""The order of a strategy in rounds, and what each round depends on.

Before the first round, the base model's confidence orders the pool. After `after_n` prompts are bought, an adapter is trained on
them, and its mean confidence on the other prompts of each task orders these others again. The bought prompts stay first, in their
sequence, so every smaller budget keeps its labels. Shares follow the newest confidence over all labels of a task: a task with
more labels than its share waits. If the confidence did not change, the order would not change either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskdiv_assets.graph.adapter_plan import AdapterPlan
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.stored_values import task_codes
from taskdiv_assets.graph.units import StaleInputError, Unit
from taskdiv_assets.selection import SelectionPool, Strategy, parse_prompt_ids, rank
from taskdiv_assets.selection.pool import TASK_MEANS
from taskdiv_assets.selection.strata import BY_COMPLEMENT
from taskdiv_assets.services.ordering import positions, put_first, refuse_lost_weights
from taskdiv_assets.storage.identity import identity

VERSION = 1  # code version of the means of one round
Rows = NDArray[np.int64]
Means = Mapping[str, float]  # task -> mean confidence


class TaskMean(NamedTuple):
    """The confidence of an adapter on the prompts of one task that are not bought."""

    left_n: int  # prompts that are not bought
    scored_n: int
    mean_confidence: float
    standard_error: float | None  # None if it cannot be estimated


class Round(NamedTuple):
    """What orders the remaining prompts after `after_n` bought ones, for one strategy and selection seed."""

    strategy: str
    selection_seed: int
    after_n: int
    bought: Rows  # (after_n,) rows of the pool
    plan: AdapterPlan  # the adapter that is trained on the bought prompts
    identity: str  # of the folder with the means


def order_in_rounds(
    strategy: Strategy,
    pool: SelectionPool,  # with the base model's confidence
    seed: int,
    after: Sequence[int],  # ascending numbers of bought prompts
    kept: Sequence[Rows],  # groups of annotated prompts that come first, see `put_first`
    means_after: Callable[
        [int, Rows], Means | None
    ],  # (after_n, bought rows) -> the means of the adapter, None if not known
) -> Rows | None:
    """Return the order after all rounds; None if a round's means are not known. Rounds as large as the pool are left out."""
    order = put_first(rank(strategy, pool, seed=seed), kept)
    for after_n in after:
        if after_n >= len(order):
            break
        bought = order[:after_n]
        means = means_after(after_n, bought)
        if means is None:
            return None
        confidence = np.array(
            [means.get(task, 1.0) for task in pool.task_names]
        )  # 1: every prompt of the task is bought
        drawn = put_first(rank(strategy, pool.with_means(confidence), seed=seed), kept)
        order = np.concatenate([bought, drawn[~np.isin(drawn, bought)]])
    return order


def stratified_pool(lineage: Lineage) -> SelectionPool:
    """Return the ids and tasks of the pool, with the base model's mean confidence of each task. Row i is row i of raw_pool."""
    labels, table = lineage.read("task_labels"), lineage.read(TASK_MEANS)
    codes, names = task_codes(labels)
    by_task = dict(zip(table["task"].to_pylist(), table["mean_confidence"].to_pylist(), strict=True))
    pool = SelectionPool(
        prompt_ids=parse_prompt_ids(labels["prompt_id"].to_pylist()),
        tasks=codes.astype(np.int32),
        task_names=tuple(names),
        confidence_column=lineage.experiment.confidence.column,
    )
    return pool.with_means(np.array([by_task[name] for name in names]))


def rounds_of(
    lineage: Lineage, strategy: str, seed: int, kept: Sequence[Sequence[str]], make: Callable[[Round], None]
) -> list[Round]:
    """Return the rounds of a strategy and seed, up to the first one without stored means.

    `make` may store the means of a round. It is called with each round, before its stored means are read.

    Raises:
        StaleInputError: an input is not fresh, a bought prompt has no answer, or a mean is too small for a weight.
    """
    found: list[Round] = []
    pool, experiment = lineage.once(stratified_pool), lineage.experiment
    of = experiment.order_in(strategy)

    def means_after(after_n: int, bought: Rows) -> Means | None:
        found.append(_round(lineage, strategy, seed, after_n, bought))
        make(found[-1])
        means = stored_means(lineage, found[-1].identity)
        return None if means is None else {task: one.mean_confidence for task, one in means.items()}

    last_n = experiment.rounds[strategy].after[-1]
    if last_n >= len(pool.prompt_ids):
        raise StaleInputError(
            f"`rounds` of {experiment.name} draws the order of {strategy} again after {last_n:,} labels, and the pool has "
            f"{len(pool.prompt_ids):,} prompts; choose a smaller number"
        )
    groups = [positions(pool, group) for group in kept]
    order_in_rounds(experiment.strategy(of), pool, seed, experiment.rounds[strategy].after, groups, means_after)
    return found


def stored_means(lineage: Lineage, folder: str) -> dict[str, TaskMean] | None:
    """Return the stored means of a round by task; None if they are not stored."""
    manifest = lineage.store.read_manifest(folder)
    return None if manifest is None else {task: TaskMean(*row) for task, row in manifest["means"].items()}


def refuse_small_means(strategy: str, means: Means, column: str) -> None:
    """Raise ValueError if a mean confidence is too small for a weight of `strategy`, see `refuse_lost_weights`."""
    if strategy != BY_COMPLEMENT:
        refuse_lost_weights([*means], np.array([*means.values()]), column)


def _round(lineage: Lineage, strategy: str, seed: int, after_n: int, bought: Rows) -> Round:
    experiment = lineage.experiment
    ids = [lineage.prompt_ids[row] for row in bought]
    training_seed = experiment.seeds[0] if experiment.purpose == "campaign" else seed
    rows = pa.table({"selection_seed": np.full(len(ids), seed), "prompt_id": ids})
    (plan,) = lineage.plans_for(rows, {training_seed: seed})
    if plan.missing_n:
        raise StaleInputError(
            f"{plan.missing_n:,} of the {after_n:,} prompts that {strategy} buys before its next round have no answer, so no "
            f"adapter can be trained on them; import the answers, or remove the round from `rounds` of {experiment.name}"
        )
    confidence = experiment.confidence
    settings: dict[str, object] = {"column": confidence.column, **lineage.held.mark()}
    settings["scorer"] = lineage.models.scorer(confidence.model_copy(update={"model": None}), plan.identity).identity
    sample = experiment.confidence_sample
    if sample is not None:
        settings["sample"] = sample if isinstance(sample, int) else sample.model_dump()
    inputs = {"prompts": lineage.fresh(Unit("raw_pool")).parts["prompts"]}
    inputs |= {"task_labels": lineage.fresh(Unit("task_labels")).identity, "adapter": plan.identity}
    return Round(strategy, seed, after_n, bought, plan, identity("round_means", VERSION, settings, inputs))
