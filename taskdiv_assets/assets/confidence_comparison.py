"""Asset `confidence_comparison`: the effect of other definitions and sources of confidence on the allocation.

A source computes the statistics of prompts: the experiment's chosen source or an alternative, such as a proxy model. A definition
selects the statistic that is the confidence. A variant is a pair of a source and a definition.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import data_contracts
from data_contracts.shared_statistics import rank_correlation, total_variation
from taskdiv_assets.assets.confidence_table import LEAST
from taskdiv_assets.confidence.effect import (
    has_small_means,
    has_weights,
    may_have_small_means,
    sampling_effect,
    weighted_allocation,
)
from taskdiv_assets.confidence.measures import DEFINITIONS, confidence
from taskdiv_assets.confidence.sampling import TaskMeans, task_means
from taskdiv_assets.experiment import CHOSEN_SOURCE
from taskdiv_assets.graph.asset import HOLDS_7B, WITHOUT_CONFIDENCE, Asset, Needs, Settings
from taskdiv_assets.graph.drawings import bars
from taskdiv_assets.graph.inputs import Inputs
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.stored_values import task_codes, task_sizes, values_of
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.work import Product, Work
from taskdiv_assets.language_model.confidence import empty_columns
from taskdiv_assets.selection.strata import IN_THOUSANDTHS
from taskdiv_assets.services.scoring import PromptScores, resolve_proxies

WITHOUT_WEIGHTS = "without_weights"  # name of the note that lists the variants that are left out


class Variant(NamedTuple):
    """A pair of a source and a definition, with the mean confidence of each task."""

    source: str
    definition: str
    means: TaskMeans
    score_s: float
    is_chosen: bool


def make_confidence_comparison(work: Work) -> Product:
    """Compute each task's mean confidence and number of labels for every variant and every budget up to the pool's size.

    Variants whose confidences cannot be turned into weights are left out, and a note lists them. If the experiment's own variant
    is left out, the table is empty.
    """
    _, names = task_codes(work.read("task_labels"))
    variants = list(_variants(work))
    without = [one for one in variants if not has_weights(one.means.mean, one.means.pool_n)]
    for one in without:
        work.log(
            f"{one.source}, {one.definition}: left out; its confidences are too small or too far apart for weights"
        )
    is_comparable = not any(one.is_chosen for one in without)
    kept = [one for one in variants if all(one is not other for other in without)] if is_comparable else []
    parts = [
        _compared(variant, budget_n, names)
        for variant in kept
        for budget_n in sorted(n for n in work.experiment.budgets if n <= variant.means.pool_n.sum())
    ]
    table = (
        pa.concat_tables(parts) if parts else data_contracts.load("confidence_comparison").arrow_schema.empty_table()
    )
    notes = {WITHOUT_WEIGHTS: [f"{one.source}, {one.definition}" for one in without], "variants_n": len(kept)}
    order = [(name, "ascending") for name in ("source", "definition", "budget_n", "task")]
    return Product(table.sort_by(order), notes if without else {}, parameters=_rows_of(work, len(kept)))


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
    schema = data_contracts.load("confidence_comparison").arrow_schema
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})


def _variants(work: Work) -> Iterator[Variant]:
    """Yield the chosen source with each definition, then each alternative source with the experiment's definition."""
    labels, scored = work.read("task_labels"), work.read("confidence_table")
    codes, names = task_codes(labels)
    own = work.experiment.confidence
    columns = {name: values_of(labels, scored, name) for name in empty_columns(0)}
    seconds = float(work.lineage.fresh(Unit("confidence_table")).notes["score_s"])
    for definition in DEFINITIONS:
        means = task_means(codes, confidence(columns, definition), len(names))
        yield Variant(CHOSEN_SOURCE, definition, means, seconds, definition == own.column)
    is_scored = pc.is_in(labels["prompt_id"], value_set=scored["prompt_id"].combine_chunks())
    wanted = is_scored.to_numpy(zero_copy_only=False)
    for entry in own.alternatives:
        scores = PromptScores.of_pool(work, entry, f"scoring prompts for {entry.name}")
        scores.score(wanted)
        values = np.where(wanted, confidence(scores.columns, own.column), np.nan)
        means, seconds = task_means(codes, values, len(names)), float(scores.seconds[wanted].sum())
        yield Variant(entry.name, own.column, means, seconds, is_chosen=False)


def compared_variants(work: Work) -> dict[str, Any]:
    footer = work.lineage.footer(work.unit)
    variants_n = len(DEFINITIONS) + len(work.experiment.confidence.alternatives)
    if footer is not None and footer.identity == work.expected.identity:
        variants_n = int(footer.notes.get("variants_n", variants_n))
    return {**task_sizes(work), **_rows_of(work, variants_n)}


def _rows_of(work: Work, variants_n: int) -> dict[str, int]:
    budgets = [n for n in work.experiment.budgets if n <= work.read("task_labels").num_rows]
    return {"rows_per_task": variants_n * len(budgets)}


def picture_comparison(table: pa.Table, notes: Mapping[str, Any]) -> bytes:
    """Draw a bar for each other variant: the share of labels that go to other tasks than with the chosen variant.

    The shares are those at the largest budget. The name of a bar contains the rank correlation of the tasks' confidences between
    the two variants. Return b"" if there is no other variant, or no chosen one.
    """
    budget_n = pc.max(table["budget_n"]).as_py()
    rows = table.filter(pc.equal(table["budget_n"], budget_n)).to_pandas()
    variants = {name: found.set_index("task") for name, found in rows.groupby(["source", "definition"], sort=True)}
    own = next((name for name, found in variants.items() if found["is_chosen"].all()), None)
    if own is None or len(variants) == 1:
        return b""
    chosen = variants.pop(own)
    names, moved = [], []
    for (source, definition), found in variants.items():
        found = found.reindex(chosen.index)
        alike = rank_correlation(found["mean_confidence"].tolist(), chosen["mean_confidence"].tolist())
        said = "unknown" if alike is None else f"{alike:.2f}"
        names.append(f"ρ {said}: {definition if source == own[0] else source}")
        moved.append(total_variation(found["allocated_n"].fillna(0).to_numpy(), chosen["allocated_n"].to_numpy()))
    by_sampling = float(chosen["distance_by_sampling"].iloc[0])
    levels = {"by scoring a sample alone": by_sampling} if by_sampling > 0 else None
    title = f"share of {budget_n:,} labels that go to other tasks than by {own[1]}\nρ: rank correlation of the tasks' confidence"
    return bars(names, {"moved": moved}, title, levels=levels)


def confidence_comparison_recipe(inputs: Inputs) -> Settings:
    lineage, alternatives = inputs.lineage, inputs.experiment.confidence.alternatives
    scorers = {entry.name: lineage.models.scorer(entry).identity for entry in alternatives}
    settings: dict[str, object] = {"scorers": scorers, "budgets": sorted(inputs.experiment.budgets)}
    for entry in alternatives:
        settings |= lineage.held.mark(entry.model)
    inputs.of("task_labels")
    inputs.of("confidence_table")
    return settings | (IN_THOUSANDTHS if lineage.once(compares_small_means) else {})


def compares_small_means(lineage: Lineage) -> bool:
    """Return True if a variant may give a task a mean confidence below one millionth.

    The means of an alternative source are not known before the source is scored. They count as small if the definition is the
    probability of the complete sequence, because the means of other definitions are rarely so small.
    """
    confidence = lineage.experiment.confidence
    if confidence.alternatives and confidence.column == "sequence_probability":
        return True
    notes = lineage.fresh(Unit("confidence_table")).notes
    if LEAST in notes and not may_have_small_means(notes[LEAST]):
        return False
    labels = lineage.read("task_labels", columns=("prompt_id", "task"))
    scored = lineage.read("confidence_table", columns=("prompt_id", "sequence_log_probability"))
    return has_small_means(labels, scored)


def prepare_proxies(work: Work) -> bool:
    return resolve_proxies(work, work.experiment.confidence.alternatives)


ASSET = Asset(
    name="confidence_comparison",
    make=make_confidence_comparison,
    reads=("raw_pool", "task_labels", "base_model", "confidence_table"),
    recipe=confidence_comparison_recipe,
    description="What other definitions of confidence, or cheaper ways to get it, would change: each task's mean "
    "confidence and its count under WeightedTaskDiversity.",
    needs=Needs(4, 24, 1, HOLDS_7B),
    is_sharded=True,
    unless=(WITHOUT_CONFIDENCE,),
    runs_after=("confidence_table",),  # this asset then reuses the scores
    parameters=compared_variants,
    picture=picture_comparison,
    kinds=frozenset({"pytorch", "parquet"}),
    prepare=prepare_proxies,
)
