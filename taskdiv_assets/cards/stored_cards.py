"""Reader of the facts of cards from the store, and writer of the cards.

    folders/<identity>/README.md                 card of an adapter or a fully tuned model; not listed in the manifest
    tables/allocation/<strategy>/<budget>.md     card of a selection, beside the selection's table

No result depends on a card. A model card names the cells that use the model, and the model's scores. It is therefore written
again after each change of a table `adapter`, `benchmark_scores` or `base_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_contracts.footer import Footer
from data_contracts.table_paths import table_parts
from taskdiv_assets.cards.facts import (
    BaseFacts,
    MeanScore,
    ModelFacts,
    PoolSource,
    SelectionFacts,
    TaskCount,
    TrainingFacts,
)
from taskdiv_assets.cards.rendering import data_card, model_card
from taskdiv_assets.graph import cells
from taskdiv_assets.graph.adapter_plan import AdapterPlan, made_by
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.lineage import Lineage
from taskdiv_assets.graph.units import Unit, ranked_strategies
from taskdiv_assets.graph.work import Work
from taskdiv_assets.storage.store import Store
from taskdiv_assets.tuning_settings import Tuning

MODEL_CARD = "README.md"


def made_of(work: Work, plan: AdapterPlan, tuning: Tuning) -> dict[str, Any]:
    """Return the inputs of a training for its folder's manifest, so that cards show them even after the experiment changes."""
    experiment, base = work.experiment, work.lineage.fresh(Unit("base_model"))
    source, revision, dtype = (base.notes[name] for name in ("source", "revision", "dtype"))
    return {
        "training_seed": plan.training_seed,
        "selection_seed": plan.selection_seed,
        "pairs": plan.pairs,
        "base": BaseFacts(base.identity, source, experiment.base.hub is not None, revision, dtype)._asdict(),
        "pool": PoolSource.of(experiment.pool, work.lineage.fresh(Unit("raw_pool")).inputs)._asdict(),
        "tuning": made_by(tuning),
        "prompt_template": experiment.prompt_template,
        "has_chat_template": experiment.chat_template,
    }


def put_cell_cards(work: Work) -> None:
    """Write the cards of the folders that the cell's table `adapter` names now or named before this step."""
    before = work.lineage.footer(Unit("adapter", work.unit.key))  # read before this cell was published

    def look(lineage: Lineage) -> Iterator[ModelFacts]:
        now = lineage.footer(Unit("adapter", work.unit.key))
        folders = {folder for footer in (before, now) if footer for folder in footer.inputs.values()}
        yield from model_facts(lineage, work.cell.budget_n, sorted(folders))

    _put_until_true(work, look)


def put_all_cards(work: Work) -> None:
    """Write the cards of all folders that cells refer to, after the base model's scores changed: each card contains them."""

    def look(lineage: Lineage) -> Iterator[ModelFacts]:
        for budget_n in {cell.budget_n for cell in cells.expected(work.experiment, work.store, lineage.pool_size)}:
            yield from model_facts(lineage, budget_n, sorted(_served(lineage, budget_n)))

    _put_until_true(work, look)


def _put_until_true(work: Work, look: Callable[[Lineage], Iterable[ModelFacts]]) -> None:
    """Write cards until they agree with the facts that `look` reads from the tables.

    Two processes may publish two cells that share a folder at the same time. Each process reads the tables again after writing,
    so an outdated card is replaced without a lock.
    """
    written: dict[str, ModelFacts] = {}
    is_written = True
    while is_written:
        is_written = False
        for facts in look(work.lineage.again()):
            if written.get(facts.identity) == facts:
                continue
            written[facts.identity] = facts
            card = model_card(facts).encode()
            if work.store.get("folders", facts.identity, MODEL_CARD) != card:
                work.store.put(card, "folders", facts.identity, MODEL_CARD)
                is_written = True


def model_facts(lineage: Lineage, budget_n: int, folders: Iterable[str]) -> Iterator[ModelFacts]:
    """Yield the facts of each folder that exists and whose manifest has `made_of`. Scores come from cells of `budget_n`.

    A folder belongs to one budget, because its identity depends on the selected prompts.
    """
    experiment, store = lineage.experiment, lineage.store
    served = _served(lineage, budget_n)
    for folder in folders:
        manifest = store.read_manifest(folder)
        if manifest is None or "made_of" not in manifest:  # removed, or trained by a version without cards
            continue
        training = training_facts(manifest)
        of_cells = served.get(folder, [])
        scored = next((footer for cell in of_cells if (footer := _scores_of(lineage, cell))), None)
        benchmarks = scored.notes["benchmarks"] if scored else ()
        yield ModelFacts(
            experiment=experiment.name,
            purpose=experiment.purpose,
            identity=folder,
            training=training,
            cells=tuple(of_cells),
            scores=_means(scored, training.training_seed),
            base_scores=_base_means(lineage, scored, training.base.identity),
            splits={entry["name"]: entry["split"] for entry in benchmarks if "split" in entry},
        )


def training_facts(manifest: Mapping[str, Any]) -> TrainingFacts:
    made, result = manifest["made_of"], manifest["result"]
    pool = {**made["pool"], "sha256": tuple(made["pool"]["sha256"])}
    kept = {name: result[name] for name in ("examples_n", "trained_tokens_n", "final_loss")}
    also = {name: manifest[name] for name in ("steps_n", "cut_n", "choices", "environment")}
    return TrainingFacts(**{**made, "base": BaseFacts(**made["base"]), "pool": PoolSource(**pool)}, **kept, **also)


def _served(lineage: Lineage, budget_n: int) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for strategy in ranked_strategies(lineage.experiment):
        cell = Cell(budget_n, strategy)
        footer = lineage.footer(Unit("adapter", cell.key))
        for folder in dict.fromkeys(footer.inputs.values()) if footer else ():
            found.setdefault(folder, []).append(cell)
    return found


def _scores_of(lineage: Lineage, cell: Cell) -> Footer | None:
    """Return the footer of a cell's scores if the scores belong to the cell's present adapters; else None."""
    adapter, scores = lineage.footer(Unit("adapter", cell.key)), lineage.footer(Unit("benchmark_scores", cell.key))
    is_of_them = adapter and scores and scores.inputs == {str(Unit("adapter", cell.key)): adapter.identity}
    return scores if is_of_them else None


def _means(scores: Footer | None, seed: int | None) -> tuple[MeanScore, ...]:
    entries = [MeanScore(**entry) for entry in (scores.notes.get("means", ()) if scores else ())]
    return tuple(entry for entry in entries if entry.training_seed == seed)


def _base_means(lineage: Lineage, scores: Footer | None, base: str) -> tuple[MeanScore, ...]:
    """Return the base model's means.

    Return () if they or `scores` are missing, if they belong to another base model, or if `scores` has other benchmark settings.
    """
    found = lineage.footer(Unit("base_scores"))
    if found is None or scores is None or found.inputs != {"base_model": base}:
        return ()
    return _means(found, None) if found.notes["benchmarks"] == scores.notes["benchmarks"] else ()


def data_card_file(
    work: Work,  # of a step that computes `allocation` or `annotation_batch`
    chosen: pa.Table,  # the table `allocation`, columns selection_seed, prompt_id, task
) -> dict[str, bytes]:
    """Return the data card of a cell's selection, as a mapping from the card's path in the store to its content."""
    return {data_card_path(work.store, str(work.unit.key)): data_card(selection_facts(work, chosen)).encode()}


def selection_facts(work: Work, chosen: pa.Table) -> SelectionFacts:
    """Return the facts of a selection, or of some of its selection seeds. The arguments are those of `data_card_file`."""
    experiment, cell, lineage = work.experiment, work.cell, work.lineage
    is_own = work.unit.asset == "allocation"
    identity = work.expected.identity if is_own else lineage.fresh(Unit("allocation", work.unit.key)).identity
    raw_pool, labels, answers = lineage.fresh(Unit("raw_pool")), work.read("task_labels"), lineage.answers
    seeds = np.asarray(chosen["selection_seed"])
    selection_seeds = tuple(np.unique(seeds).tolist())
    of_seed = [chosen.filter(seeds == seed) for seed in selection_seeds]
    counts = [_counts(rows["task"]) for rows in of_seed]
    notes = ("rows_read_n", "drops", "repairs", "duplicates_n", "prompts_under_two_tasks_n")
    return SelectionFacts(
        experiment=experiment.name,
        purpose=experiment.purpose,
        strategy=cell.strategy,
        budget_n=cell.budget_n,
        identity=identity,
        selection_seeds=selection_seeds,
        pool=PoolSource.of(experiment.pool, raw_pool.inputs),
        duplicates=experiment.pool.duplicates or "keep",
        tasks=tuple(
            TaskCount(task, pool_n, tuple(count.get(task, 0) for count in counts))
            for task, pool_n in _counts(labels["task"]).items()
        ),
        labels_how=_counts(pc.cast(labels["how"], pa.string())),
        answered_n=tuple(sum(answers[i] is not None for i in rows["prompt_id"].to_pylist()) for rows in of_seed),
        **{name: raw_pool.notes[name] for name in notes},
    )


def data_card_path(store: Store, key: str) -> str:
    return "/".join(table_parts("allocation", key)).removesuffix(".parquet") + ".md"


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
