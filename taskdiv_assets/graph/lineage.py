"""What makes each result, and whether the stored one is still it.

From the experiment and the store it computes the identity that each result should have now (`expect`), and compares the stored
one with it (`state`). Every asset, `taskdiv plan` and `taskdiv run` ask here; nothing here works or writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple

import pyarrow as pa

from taskdiv_assets.assets import ranking_plan
from taskdiv_assets.assets.scoring_plan import ScoringPlan
from taskdiv_assets.confidence.effect import has_small_means, may_have_small_means
from taskdiv_assets.experiment import ADD_BASE_MODEL, Experiment
from taskdiv_assets.graph.adapter_plan import AdapterPlan, TrialPrompts, choice_recipe, kept_or_drawn, plan_adapters
from taskdiv_assets.graph.cells import Cell, PoolSize, is_full_pool, training_seeds
from taskdiv_assets.graph.cells import expected as expected_cells
from taskdiv_assets.graph.held import Held
from taskdiv_assets.graph.known_answers import known_answers
from taskdiv_assets.graph.models import BATCHING, READING, Expectation, Models, StaleInputError, what_changed
from taskdiv_assets.graph.source_hashes import SourceHashes
from taskdiv_assets.graph.units import ORDER, RANKING_INPUTS, Unit, all_units
from taskdiv_assets.language_model.batching import FIXED_SHAPES
from taskdiv_assets.language_model.texts import CONTROL
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.identity import CODE_VERSIONS, digest, identity
from taskdiv_assets.storage.store import DamagedError, Footer, Store
from taskdiv_assets.tuning_settings import LearningRates

LEAST = "least_log_probability"  # note of confidence_table: of the sequences of all its prompts


class State(NamedTuple):
    """How the stored result stands to what it should be."""

    status: Literal["fresh", "stale", "missing", "blocked"]
    reason: str


class Lineage:
    """One look at the store: footers are read once, so make a new one after something was written."""

    def __init__(self, experiment: Experiment, store: Store) -> None:
        self.experiment = experiment
        self.store = store
        self.models = Models(experiment, self.footer, self.fresh, store)
        self.held = Held(self.models, lambda: self.answers)
        self.scoring = ScoringPlan(experiment, self.models)
        self.sources = SourceHashes(experiment, self.footer)
        self.problems: dict[Unit, str] = {}  # stored tables that cannot be read
        self._footers: dict[Unit, Footer | None] = {}
        self._expected: dict[Unit, Expectation | StaleInputError] = {}
        self._whole: set[str] = set()  # folders that were found whole

    # --- the stored side -----------------------------------------------------------------------------------------

    def footer(self, unit: Unit) -> Footer | None:
        """Footer of what is stored, None if nothing is."""
        if unit not in self._footers:
            self._read_footers([unit])
        return self._footers[unit]

    def _read_footers(self, units: Sequence[Unit]) -> None:
        for unit, found in zip(units, self.store.read_footers(units), strict=True):
            if isinstance(found, ValueError):  # somebody else's file, or a damaged one: as good as none
                self.problems[unit] = str(found)
            self._footers[unit] = None if isinstance(found, ValueError) else found

    def look_ahead(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Read at once what a walk over these units would ask an object store for one by one; returns the units.

        650 cells at 20 ms a request: seconds where it was minutes. On a local disk nothing is read ahead.
        """
        if not self.store.is_local:
            self._read_footers([unit for unit in units if unit not in self._footers])
            adapters = {unit: found for unit in units if unit.asset == "adapter" and (found := self.footer(unit))}
            folders = sorted({one for found in adapters.values() for one in found.inputs.values()} - self._whole)
            are_whole = remote.at_once(self.store.is_whole, folders)
            self._whole.update(name for name, is_whole in zip(folders, are_whole, strict=True) if is_whole)
            for unit in units:  # what adapters are made of, so that each of them reads its own cell's choice only
                if unit.asset not in ("adapter", "benchmark_scores", "strategy_report"):
                    self.state(unit)
            remote.at_once(self.state, adapters)
        return units

    def state(self, unit: Unit) -> State:
        """Fresh, stale, missing, or blocked by an input that is not fresh itself."""
        try:
            expected = self.expect(unit)
        except StaleInputError as error:
            return State("blocked", str(error))
        footer = self.footer(unit)
        if footer is None:
            return State("missing", self.problems.get(unit, f"{unit} is not there yet"))
        if footer.identity != expected.identity:
            return State("stale", f"{unit} was made from {what_changed(footer, expected)}")
        lost = self._lost_folder(unit)
        return State("missing", f"{unit} lost its folder {lost}") if lost else State("fresh", "")

    def is_fresh(self, unit: Unit) -> bool:
        """True if the stored result is what it should be now."""
        return self.state(unit).status == "fresh"

    def lacks_notes(self, unit: Unit) -> bool:
        """True for a base model of an earlier version, whose footer does not say how texts are read and batched."""
        footer = self.footer(unit) if unit.asset == "base_model" else None
        return footer is not None and not (BATCHING in footer.notes and CONTROL in footer.notes.get(READING, {}))

    @cached_property
    def pool_size(self) -> PoolSize | None:
        """Size of the pool and whether all its answers are known; None before the pool was read."""
        footer = self.footer(Unit("raw_pool"))
        if footer is None or not self.is_fresh(Unit("raw_pool")):
            return None
        return PoolSize(len(self._prompt_ids), all(answer is not None for answer in self._answers.values()))

    # --- the expected side ---------------------------------------------------------------------------------------

    def expect(self, unit: Unit) -> Expectation:
        """Identity and inputs that a result should have now.

        Raises:
            StaleInputError: an input is missing or out of date: one sentence that says which, and what to run.
        """
        if unit not in self._expected:
            try:
                settings, inputs = self._recipe(unit)
                value = identity(unit.asset, CODE_VERSIONS[unit.asset], settings, inputs)
                self._expected[unit] = Expectation(value, inputs)
            except StaleInputError as error:
                self._expected[unit] = error
        found = self._expected[unit]
        if isinstance(found, StaleInputError):
            raise found
        return found

    def fresh(self, unit: Unit) -> Footer:
        """Footer of an input that has to be up to date.

        Raises:
            StaleInputError: it is not.
        """
        state = self.state(unit)
        footer = self.footer(unit)
        if state.status != "fresh" or footer is None:
            advice = f"run `taskdiv run {self.experiment.name}` or materialise it first"
            raise StaleInputError(state.reason if state.status == "blocked" else f"{state.reason}; {advice}")
        return footer

    def _recipe(self, unit: Unit) -> tuple[dict[str, object], dict[str, str]]:
        recipes = {
            "raw_pool": self._raw_pool,
            "task_labels": self._task_labels,
            "base_model": self._base_model,
            "confidence_table": self._confidence_table,
            "prompt_embeddings": self._prompt_embeddings,
            "task_confidence": self._task_confidence,
            "confidence_comparison": self._confidence_comparison,
            "confidence_accuracy": self._confidence_accuracy,
            "annotations": self._annotations,
            "base_scores": self._base_scores,
            "tuning_choice": self._tuning_choice,
            "strategy_report": self._strategy_report,
        }
        if unit.asset in recipes:
            return recipes[unit.asset]()
        key = unit.key or ""
        if unit.asset == "ranking":
            return self._ranking(key)
        keyed = {
            "allocation": self._allocation,
            "annotation_batch": self._annotation_batch,
            "adapter": self._adapter,
            "benchmark_scores": self._benchmark_scores,
        }
        return keyed[unit.asset](Cell.parse(key))

    def _raw_pool(self) -> tuple[dict[str, object], dict[str, str]]:
        pool = self.experiment.pool
        lab_fields = {"seed", "tasks", "largest_n", "smallest_n"}
        settings = pool.model_dump(exclude={"path"} if pool.reader == "lab" else {"path", *lab_fields})
        return settings, self.sources.raw_pool()

    def _task_labels(self) -> tuple[dict[str, object], dict[str, str]]:
        inputs = {"raw_pool.prompts": self.fresh(Unit("raw_pool")).parts["prompts"], **self.sources.task_labels()}
        labels = self.experiment.task_labels
        named = {name: value for name, value in (("key", labels.key), ("task", labels.task)) if value is not None}
        if labels.key is not None:  # it may hold ids of the user's own
            pool = self.fresh(Unit("raw_pool"))
            inputs["raw_pool.ids"] = pool.parts.get("ids", pool.identity)
        return {"from": self.experiment.labels_from, **named}, inputs

    def _base_model(self) -> tuple[dict[str, object], dict[str, str]]:
        if self.experiment.base_model is None:
            raise StaleInputError(f"{self.experiment.name} names no base model; {ADD_BASE_MODEL}")
        settings = self.models.settings(self.experiment.base_model, self.models.decision["dtype"])
        return settings, self.sources.base_model()

    def _reading(self) -> dict[str, str]:
        """Inputs of what the base model says of the prompts: never the answers."""
        return {
            "raw_pool.prompts": self.fresh(Unit("raw_pool")).parts["prompts"],
            "base_model": self.fresh(Unit("base_model")).identity,
        }

    def _confidence_table(self) -> tuple[dict[str, object], dict[str, str]]:
        scorer = self.models.scorer(self.experiment.confidence)
        settings: dict[str, object] = {"column": self.experiment.confidence.column, "scorer": scorer.identity}
        inputs = {"raw_pool.prompts": self.fresh(Unit("raw_pool")).parts["prompts"], **scorer.inputs}
        settings |= self.held.mark(self.experiment.confidence.model)
        sample = self.experiment.confidence_sample
        if sample is not None:
            settings["sample"] = sample if isinstance(sample, int) else sample.model_dump()
            inputs["task_labels"] = self.fresh(Unit("task_labels")).identity
        return settings, inputs

    def _confidence_comparison(self) -> tuple[dict[str, object], dict[str, str]]:
        scorers = {entry.name: self.models.scorer(entry).identity for entry in self.experiment.confidence.alternatives}
        settings: dict[str, object] = {"scorers": scorers, "budgets": sorted(self.experiment.budgets)}
        for entry in self.experiment.confidence.alternatives:
            settings |= self.held.mark(entry.model)
        inputs = {
            "task_labels": self.fresh(Unit("task_labels")).identity,
            "confidence_table": self.fresh(Unit("confidence_table")).identity,
        }
        return settings | (ranking_plan.IN_THOUSANDTHS if self._compares_small_means else {}), inputs

    @property
    def _compares_small_means(self) -> bool:
        """True if a compared source or definition may give a task a mean below a millionth.

        An alternative's own means are known only once it has scored. It uses the definition of the experiment, of which the
        probability of a whole sequence alone is that small as a rule.
        """
        confidence = self.experiment.confidence
        if confidence.alternatives and confidence.column == "sequence_probability":
            return True
        notes = self.fresh(Unit("confidence_table")).notes
        if LEAST in notes and not may_have_small_means(notes[LEAST]):
            return False
        labels = self._read("task_labels", columns=("prompt_id", "task"))
        return has_small_means(
            labels, self._read("confidence_table", columns=("prompt_id", "sequence_log_probability"))
        )

    def _read(self, asset: str, key: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a stored table, or some columns, that an identity depends on.

        Raises:
            StaleInputError: it is damaged, or was removed since its footer was read.
        """
        try:
            return self.store.read_table(asset, key, columns).table
        except (DamagedError, FileNotFoundError) as error:
            raise StaleInputError(str(error)) from None

    def _confidence_accuracy(self) -> tuple[dict[str, object], dict[str, str]]:
        confidence = self.experiment.confidence
        settings: dict[str, object] = {"items": confidence.validation_items, "column": confidence.column}
        inputs = {"base_model": self.fresh(Unit("base_model")).identity}
        settings["scorer"] = self.models.scorer(confidence).identity
        if self.experiment.pool.reader == "lab":
            settings["lab"] = [self.experiment.pool.seed, self.experiment.pool.tasks]
        else:
            settings |= self.held.mark(confidence.model) | self.held.mark(columns=("prompt", "response"))
            inputs["raw_pool.answers"] = self.fresh(Unit("raw_pool")).parts["answers"]
            inputs["task_labels"] = self.fresh(Unit("task_labels")).identity
        return settings, inputs

    def _prompt_embeddings(self) -> tuple[dict[str, object], dict[str, str]]:
        settings: dict[str, object] = {
            "pooling": self.experiment.embeddings.pooling,
            "template": self.models.template,
            "shapes": FIXED_SHAPES,
            **self.models.batching("right"),
        }
        return settings | self.held.mark(), self._reading()

    def _task_confidence(self) -> tuple[dict[str, object], dict[str, str]]:
        return {}, {
            "task_labels": self.fresh(Unit("task_labels")).identity,
            "confidence_table": self.fresh(Unit("confidence_table")).identity,
        }

    def ranking_depth(self, strategy: str) -> int:
        """How deep a strategy's order goes over this pool."""
        return ranking_plan.ranking_depth(self.experiment, strategy, len(self._prompt_ids))

    @cached_property
    def kept_first(self) -> Mapping[str, list[list[str]]]:
        """By strategy, the annotated prompts that its order begins with, as of this look; none unless `keep_annotated`."""
        if not self.experiment.keep_annotated:
            return {}
        self.fresh(Unit("annotations"))
        try:
            return ranking_plan.kept_first(self.experiment, self.store)
        except DamagedError as error:
            raise StaleInputError(str(error)) from None

    def _ranking(self, strategy: str) -> tuple[dict[str, object], dict[str, str]]:
        try:
            needs = self.experiment.strategy(strategy).needs
        except ValueError as error:  # its name, or its package, is gone
            raise StaleInputError(str(error)) from None
        inputs = {
            "raw_pool.prompts": self.fresh(Unit("raw_pool")).parts["prompts"],
            "task_labels": self.fresh(Unit("task_labels")).identity,
        }
        for need, asset in RANKING_INPUTS.items():
            if need in needs:
                inputs[asset] = self.fresh(Unit(asset)).identity
        if kept := self.kept_first.get(strategy):  # as long as nothing is kept, nobody's identity changes
            inputs["annotations.prompts"] = digest(kept)
        if own := self.experiment.own_order(strategy):
            inputs |= {**self.sources.own_order(own), "raw_pool.source_ids": digest(self._source_ids)}
        depth, pool_n = self.ranking_depth(strategy), len(self._prompt_ids)
        settings = ranking_plan.ranking_settings(self.experiment, strategy, depth, pool_n)
        means = self._mean_confidence if "task_confidence" in needs else ()
        return settings | ranking_plan.cost_settings(strategy, needs, means), inputs

    @cached_property
    def _mean_confidence(self) -> list[float]:
        """Mean confidence of each task; of the stored table, which is up to date."""
        means: list[float] = self._read("task_confidence", columns=["mean_confidence"])["mean_confidence"].to_pylist()
        return means

    def _allocation(self, cell: Cell) -> tuple[dict[str, object], dict[str, str]]:
        ranking = Unit("ranking", cell.strategy)
        inputs = {str(ranking): self.fresh(ranking).identity}
        settings = {"budget_n": cell.budget_n, "selection_seeds": list(self.cell_selection_seeds(cell))}
        return settings, inputs

    def _annotations(self) -> tuple[dict[str, object], dict[str, str]]:
        files = [name for name in self.store.names("annotations") if name.endswith(".parquet")]
        pool = self.fresh(Unit("raw_pool")).parts
        copies = {"raw_pool.copies": pool["copies"]} if "copies" in pool else {}
        return {}, {"files": digest(files), "raw_pool.prompts": pool["prompts"], **copies}

    def _annotation_batch(self, cell: Cell) -> tuple[dict[str, object], dict[str, str]]:
        allocation = Unit("allocation", cell.key)
        pool = self.fresh(Unit("raw_pool")).parts
        answers = {"annotations": self.fresh(Unit("annotations")).identity, "raw_pool.answers": pool["answers"]}
        return {}, {str(allocation): self.fresh(allocation).identity, **answers}

    def _adapter(self, cell: Cell) -> tuple[dict[str, object], dict[str, str]]:
        return {}, {f"seed/{plan.training_seed}": plan.identity for plan in self.adapter_plans(cell)}

    def _benchmark_scores(self, cell: Cell) -> tuple[dict[str, object], dict[str, str]]:
        adapter = Unit("adapter", cell.key)
        inputs = {str(adapter): self.fresh(adapter).identity}
        return self.scoring.settings(), inputs

    def _base_scores(self) -> tuple[dict[str, object], dict[str, str]]:
        inputs = {"base_model": self.fresh(Unit("base_model")).identity}
        return self.scoring.settings(), inputs

    def _strategy_report(self) -> tuple[dict[str, object], dict[str, str]]:
        """The report says what is there, so it needs nothing fresh: it is made of whatever is."""
        inputs = {}
        for unit in self.look_ahead(all_units(self.experiment, self.store, self.pool_size, ORDER)):
            footer = self.footer(unit)
            if unit.asset != "strategy_report" and footer is not None:
                state = self.state(unit).status
                inputs[str(unit)] = footer.identity if state == "fresh" else state
        rejected = digest([[name, note.get("identity"), note.get("rules")] for name, note in self.store.rejections()])
        expected = [cell.key for cell in expected_cells(self.experiment, self.store, self.pool_size)]
        shown = self.experiment.model_dump(exclude={"owners", "fresh_days"})
        settings: dict[str, object] = {"experiment": shown, "rejected": rejected, "cells": expected}
        exports = [name for name in self.store.names("exports") if name.endswith(".json")]
        if exports:  # a report of an experiment that sent nothing out keeps the identity it always had
            settings["exports"] = digest(exports)
        return settings, inputs

    def stale_units(self) -> dict[str, str]:
        """Stored results that are not what they should be now, with the reason: a report leaves them out."""
        units = [
            u for u in all_units(self.experiment, self.store, self.pool_size, ORDER) if u.asset != "strategy_report"
        ]
        states = {str(unit): self.state(unit) for unit in self.look_ahead(units) if self.footer(unit) is not None}
        return {name: state.reason for name, state in states.items() if state.status != "fresh"}

    # --- finer parts ---------------------------------------------------------------------------------------------

    def cell_seeds(self, cell: Cell) -> tuple[int, ...]:
        """Training seeds of a cell."""
        return training_seeds(self.experiment, cell, self.pool_size)

    def cell_selection_seeds(self, cell: Cell) -> tuple[int, ...]:
        """Selection seeds of a cell, each once."""
        return tuple(sorted({self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}))

    def is_full_pool(self, cell: Cell) -> bool:
        """True for the cell that trains on everything."""
        return is_full_pool(self.experiment, cell, self.pool_size)

    def adapter_plans(self, cell: Cell) -> list[AdapterPlan]:
        """What each seed's adapter of a cell is made of; equal selections have equal identities."""
        self.fresh(Unit("allocation", cell.key))
        base = self.fresh(Unit("base_model")).identity
        rows = self._read("allocation", cell.key)
        seeds = {seed: self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}
        template, tuning = self.models.training_template, self.experiment.tuning
        if tuning.candidates is not None:
            plans = plan_adapters(rows, self._answers, seeds, tuning.at(0.0), template, base, self.held.pairs)
            if any(plan.missing_n for plan in plans):
                return plans  # answers come first; nothing is trained or found at this rate
            tuning = tuning.at(float(self.fresh(Unit("tuning_choice")).notes["learning_rate"]))
        return plan_adapters(rows, self._answers, seeds, tuning, template, base, self.held.pairs)

    def _tuning_choice(self) -> tuple[dict[str, object], dict[str, str]]:
        tuning = self.experiment.tuning
        if tuning.candidates is None:  # nothing has to be chosen
            return {"learning_rate": tuning.rate}, {}
        self.fresh(Unit("annotations"))
        base = self.fresh(Unit("base_model")).identity
        drawn, template = self.trial_prompts(tuning.candidates), self.models.training_template
        return choice_recipe(tuning, drawn, self._answers, template, base, self.held.pairs)

    def trial_prompts(self, rates: LearningRates) -> TrialPrompts:
        """Prompts that learning rates are tried on: those of the stored choice while they serve, else drawn anew.

        Raises:
            StaleInputError: too few answers are known.
        """
        footer = self.footer(Unit("tuning_choice"))
        try:
            return kept_or_drawn(self._answers, rates, min(self.experiment.budgets), footer.notes if footer else {})
        except ValueError as error:
            raise StaleInputError(str(error)) from None

    @cached_property
    def _prompt_ids(self) -> list[str]:
        self.fresh(Unit("raw_pool"))
        ids: list[str] = self._read("raw_pool", columns=["prompt_id"])["prompt_id"].to_pylist()
        return ids

    @cached_property
    def _source_ids(self) -> list[list[str | None]]:
        """prompt_id and the user's own id of each prompt: what a file of own ids is read by; `raw_pool.prompts` leaves it out."""
        self.fresh(Unit("raw_pool"))
        table = self._read("raw_pool", columns=["prompt_id", "source_id"])
        return [table["prompt_id"].to_pylist(), table["source_id"].to_pylist()]

    @cached_property
    def answers(self) -> dict[str, str | None]:
        """Answer of each prompt, None where it is not known: as of this look, so that what is named is what is used."""
        try:
            return known_answers(self.store)
        except DamagedError as error:
            raise StaleInputError(str(error)) from None

    @cached_property
    def _answers(self) -> dict[str, str | None]:
        """sha256 of each prompt's answer, None where it is not known."""
        return {
            prompt_id: None if text is None else hashlib.sha256(text.encode()).hexdigest()
            for prompt_id, text in self.answers.items()
        }

    def _lost_folder(self, unit: Unit) -> str | None:
        """Identity of a folder that a table points at but that is not there."""
        if unit.asset in ("base_model", "prompt_embeddings"):
            folders = [self.expect(unit).identity]
        elif unit.asset == "adapter":
            folders = list(self.expect(unit).inputs.values())
        else:
            return None
        return next((name for name in folders if not self._is_whole(name)), None)

    def _is_whole(self, folder: str) -> bool:
        if folder not in self._whole and self.store.is_whole(folder):
            self._whole.add(folder)
        return folder in self._whole
