"""Asset `round_confidence`: for strategies in rounds, the mean confidence of each task by the adapter of each finished round."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from taskdiv_assets.assets.adapter import stored_or_trained
from taskdiv_assets.assets.confidence_table import rounds
from taskdiv_assets.assets.ranking import kept_first
from taskdiv_assets.confidence.measures import confidence
from taskdiv_assets.confidence.sampling import TaskMeans, task_means
from taskdiv_assets.graph.asset import HOLDS_7B, Asset, Needs, Settings, Unless
from taskdiv_assets.graph.drawings import bars
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.stored_values import task_codes
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.selection.pool import TASK_MEANS
from taskdiv_assets.services.in_rounds import Round, TaskMean, refuse_small_means, rounds_of, stored_means
from taskdiv_assets.services.scoring import PromptScores
from taskdiv_assets.storage import locks
from taskdiv_assets.storage.identity import digest


def make_round_confidence(work: Work) -> Product:
    """Collect the means of all rounds, which `prepare_rounds` has stored."""
    rows = []
    for one in all_rounds(work.lineage, partial(make_round, work)):
        key = {"strategy": one.strategy, "selection_seed": one.selection_seed, "after_n": one.after_n}
        for task, found in (stored_means(work.lineage, one.identity) or {}).items():
            rows.append({**key, "task": task, **found._asdict(), "adapter": one.plan.identity})
    parts = {name: digest([row for row in rows if row["strategy"] == name]) for name in work.experiment.rounds}
    rows.sort(key=lambda row: (row["strategy"], row["selection_seed"], row["after_n"], row["task"]))
    return Product(pa.Table.from_pylist(rows), {"rounds_n": len({(r["strategy"], r["after_n"]) for r in rows})}, parts)


def all_rounds(lineage: Lineage, make: Callable[[Round], None] = lambda _: None) -> list[Round]:
    """Return the rounds of all strategies and selection seeds, see `rounds_of`."""
    kept, seeds = lineage.once(kept_first), lineage.experiment.selection_seeds
    pairs = [(strategy, seed) for strategy in lineage.experiment.rounds for seed in sorted(seeds)]
    return [one for strategy, seed in pairs for one in rounds_of(lineage, strategy, seed, kept.get(strategy, ()), make)]


def prepare_rounds(work: Work) -> bool:
    """Train and score each round that has no stored means, because the next round and the identity depend on its means."""
    made: list[Round] = []

    def make(one: Round) -> None:
        if stored_means(work.lineage, one.identity) is None:
            make_round(work, one)
            made.append(one)

    all_rounds(work.lineage, make)
    return bool(made)


def make_round(work: Work, one: Round) -> None:
    """Store the means of one round, if they are not stored. A killed round goes on with its adapter and its stored scores."""
    with locks.hold(work.store, one.identity, on_wait=work.wait):
        if stored_means(work.lineage, one.identity) is not None:
            return
        work.log(
            f"{one.strategy}, seed {one.selection_seed}: the confidence of the adapter after {one.after_n:,} labels"
        )
        stored_or_trained(work, one.plan)
        found, names = _scored(work, one)
        shown = zip(found.pool_n, found.scored_n, found.mean, found.standard_error, strict=True)
        means = {
            name: TaskMean(int(left_n), int(scored_n), float(mean), None if np.isnan(error) else float(error))
            for name, (left_n, scored_n, mean, error) in zip(names, shown, strict=True)
            if left_n
        }
        of = work.experiment.order_in(one.strategy)
        refuse_small_means(
            of, {name: row.mean_confidence for name, row in means.items()}, work.experiment.confidence.column
        )
        made_of = {"strategy": of, "selection_seed": one.selection_seed, "after_n": one.after_n}
        work.store.finish_folder(one.identity, {}, means=means, made_of={**made_of, "adapter": one.plan.identity})


def _scored(work: Work, one: Round) -> tuple[TaskMeans, list[str]]:
    """Score the prompts that are not bought with the round's adapter. Return the means of all tasks, and the tasks."""
    from taskdiv_assets.services.candidates import Candidates

    labels, pool = work.read("task_labels"), work.read("raw_pool")
    codes, names = task_codes(labels)
    is_left = np.ones(len(codes), np.bool_)
    is_left[one.bought] = False
    left = pool.filter(pa.array(is_left))
    settings = work.experiment.confidence.model_copy(update={"model": None})
    what = f"{one.strategy}, seed {one.selection_seed}, after {one.after_n:,}"
    tuned = one.plan.identity
    scores = PromptScores(work, settings, left["prompt_id"].to_pylist(), left["prompt"], what, tuned=tuned)
    wanted = np.zeros(len(left), np.bool_)
    with Candidates(work, {one.plan.training_seed: tuned}) as candidates:
        for wanted in rounds(work, scores, codes[is_left]):
            if not scores.is_known[wanted].all():
                scores.score(wanted, candidates.activate(one.plan.training_seed))
    values = np.full(len(left), np.nan)
    known = {name: column[wanted] for name, column in scores.columns.items()}
    values[wanted] = confidence(known, settings.column)
    return task_means(codes[is_left], values, len(names)), names


def round_parameters(work: Work) -> dict[str, Any]:
    """Return the contract parameters: strategies and seeds of the experiment, and the size of each task."""
    labels = work.read("task_labels")["task"].value_counts().to_pylist()
    return {
        "strategies": [*work.experiment.rounds],
        "selection_seeds": sorted(work.experiment.selection_seeds),
        "tasks": [entry["values"] for entry in labels],
    }


def picture_rounds(table: pa.Table, notes: Any) -> bytes:
    """Draw each task's mean confidence after the last round of the first strategy and seed; b"" without rounds."""
    if not table.num_rows:
        return b""
    rows = table.to_pylist()
    of_first = [row for row in rows if all(row[key] == rows[0][key] for key in ("strategy", "selection_seed"))]
    after_n = max(row["after_n"] for row in of_first)
    last = sorted((row for row in of_first if row["after_n"] == after_n), key=lambda row: row["mean_confidence"])
    errors = [row["standard_error"] or 0.0 for row in last]
    values = {"mean confidence": [row["mean_confidence"] for row in last]}
    title = (
        f"{rows[0]['strategy']}\nseed {rows[0]['selection_seed']}, after {after_n:,} labels (bars: one standard error)"
    )
    return bars([row["task"] for row in last], values, title, errors)


def round_confidence_recipe(inputs: Inputs) -> Settings:
    for name in ("task_labels", TASK_MEANS):
        inputs.of(name)
    found = all_rounds(inputs.lineage)
    inputs.add({f"{one.strategy}/{one.selection_seed}/{one.after_n}": one.identity for one in found})
    is_made = [stored_means(inputs.lineage, one.identity) is not None for one in found]
    return {} if all(is_made) else {"rounds": "not made"}


ASSET = Asset(
    name="round_confidence",
    make=make_round_confidence,
    reads=("raw_pool", "task_labels", "annotations", "base_model", TASK_MEANS, "tuning_choice"),
    recipe=round_confidence_recipe,
    description="For strategies in rounds: the mean confidence of each task, of the adapter that was trained on the labels "
    "of the rounds before, over the prompts that are not bought. It orders these prompts again.",
    needs=Needs(4, 32, 1, f"{HOLDS_7B}, and checkpoints of the adapter that is trained"),
    unless=(
        Unless(
            lambda experiment, needs: not experiment.rounds or TASK_MEANS not in needs,
            "{asset} is for strategies in rounds, and there is none ({strategies}); `taskdiv round next` starts a round",
        ),
    ),
    parameters=round_parameters,
    kinds=frozenset({"pytorch", "huggingface", "parquet"}),
    picture=picture_rounds,
    prepare=prepare_rounds,
)
