"""A cached view of one experiment's store: which results are fresh, and facts from stored tables, such as the pool's size.

An identity is a hash of everything that determines a result. A footer is the metadata of a stored table and contains the
table's identity. A view compares this identity with the identity that the current inputs and settings give. A view never
writes to the store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from data_contracts.footer import Footer
from data_contracts.variant_names import FOLDER
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.experiment.variants import variants_of
from taskdiv_assets.graph.adapter_plan import AdapterPlan, TrialPrompts, kept_or_drawn, plan_adapters
from taskdiv_assets.graph.cells import Cell, PoolSize, is_full_pool, training_seeds
from taskdiv_assets.graph.inputs import Inputs, only, refuse_undeclared
from taskdiv_assets.graph.known_answers import differing, held_out_items, known_answers
from taskdiv_assets.graph.models import Held, Models
from taskdiv_assets.graph.scoring_plan import ScoringPlan
from taskdiv_assets.graph.source_hashes import SourceHashes
from taskdiv_assets.graph.units import Expectation, StaleInputError, State, Unit, what_changed
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.identity import digest, identity
from taskdiv_assets.storage.store import DamagedError, Store
from taskdiv_assets.tuning_settings import LearningRates

if TYPE_CHECKING:  # `registry` imports this module
    from taskdiv_assets.graph.registry import Registry

T = TypeVar("T")


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


class Lineage:
    """A cached view of an experiment's store. Each footer is read once, so a new view is needed after a file was written."""

    def __init__(self, experiment: Experiment, store: Store, registry: Registry) -> None:
        self.experiment, self.store, self.registry = experiment, store, registry
        self.problems: dict[Unit, str] = {}  # unit → error of a stored table that cannot be read
        self._footers: dict[Unit, Footer | None] = {}
        self._expected: dict[Unit, Expectation | StaleInputError] = {}
        self._whole: set[str] = set()  # identities of folders that are complete
        self._once: dict[Callable[[Any], Any], Any] = {}
        self.models = Models(experiment, self.footer, self.fresh, store)
        self.held = Held(self.models, self._texts_of_answers)
        self.scoring = ScoringPlan(experiment, self.models, lambda: self.fresh(Unit("held_out_items")))
        self.sources = SourceHashes(experiment, self.footer)

    def again(self) -> Lineage:
        """Return a new view, which includes files that were written after this view was made."""
        return Lineage(self.experiment, self.store, self.registry)

    def once(self, function: Callable[[Lineage], T]) -> T:
        """Return `function(self)`. The function is called only the first time; later calls of `once` return the same value."""
        if function not in self._once:
            self._once[function] = function(self)
        found: T = self._once[function]
        return found

    def footer(self, unit: Unit) -> Footer | None:
        """Return the footer of a stored table; None if the table is missing, damaged, or written by another program."""
        refuse_undeclared(unit.asset)
        if unit not in self._footers:
            self._read_footers([unit])
        return self._footers[unit]

    def _read_footers(self, units: Sequence[Unit]) -> None:
        for unit, found in zip(units, self.store.read_footers(units), strict=True):
            if isinstance(found, ValueError):  # a damaged file, or a file of another program, counts as a missing table
                self.problems[unit] = str(found)
            self._footers[unit] = None if isinstance(found, ValueError) else found

    def look_ahead(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """If the store is remote, read concurrently the files that determine the states of `units`. Return `units`.

        For 650 cells at 20 ms per request, this takes seconds. Reading one file after another would take minutes.
        """
        if self.store.is_local:
            return units
        self._read_footers([unit for unit in units if unit not in self._footers])
        of_folders = {asset.name for asset in self.registry if asset.folders == "inputs"}
        pointing = {unit: found for unit in units if unit.asset in of_folders and (found := self.footer(unit))}
        folders = sorted({one for found in pointing.values() for one in found.inputs.values()} - self._whole)
        are_whole = remote.at_once(self.store.is_whole, folders)
        self._whole.update(name for name, is_whole in zip(folders, are_whole, strict=True) if is_whole)
        for unit in units:  # shared inputs first, so that each thread below reads only the tables of its own cell
            if not self.registry.ancestors(unit.asset) & of_folders:
                self.state(unit)
        remote.at_once(self.state, pointing)
        return units

    def state(self, unit: Unit) -> State:
        """Return the state of a unit: fresh, stale, missing or blocked, with the reason."""
        try:
            expected = self.expect(unit)
        except StaleInputError as error:
            return State("blocked", str(error))
        footer = self.footer(unit)
        if footer is None:
            return State("missing", self.problems.get(unit, f"{unit} is not there yet"))
        if footer.identity != expected.identity:
            if not self.store.owns(*unit):  # the footer is that of the parent's table, which this variant cannot use
                return State("missing", f"{unit} of {self.experiment.name} is not there yet")
            version = self.registry[unit.asset].code_version
            return State("stale", f"{unit} was made from {what_changed(footer, expected, version)}")
        lost = self._lost_folder(unit, expected)
        if lost:
            return State("missing", f"{unit} lost its folder {lost}")
        other = self._other_file(unit, footer)
        return State("stale", f"{other} is not the file that was stored with {unit}") if other else State("fresh", "")

    def is_fresh(self, unit: Unit) -> bool:
        return self.state(unit).status == "fresh"

    def lacks_notes(self, unit: Unit) -> bool:
        """Return True if the footer of the stored table lacks notes that this version of the program needs."""
        lacks, footer = self.registry[unit.asset].lacks_notes, self.footer(unit)
        return lacks is not None and footer is not None and lacks(footer.notes)

    def _lost_folder(self, unit: Unit, expected: Expectation) -> str | None:
        kind = self.registry[unit.asset].folders
        folders = {"none": [], "own": [expected.identity], "inputs": list(expected.inputs.values())}[kind]
        return next((name for name in folders if not self._is_whole(name)), None)

    def _other_file(self, unit: Unit, footer: Footer) -> str | None:
        """Return the path of a file of the asset that is missing, or has another content than when the table was stored."""
        paths, noted = self.registry[unit.asset].files, footer.notes.get("files")
        digests = noted if isinstance(noted, dict) else {}
        found = {path: self.store.get(*path.split("/")) for path in paths}
        return next((path for path, raw in found.items() if raw is None or sha256(raw) != digests.get(path)), None)

    def _is_whole(self, folder: str) -> bool:
        if folder not in self._whole and self.store.is_whole(folder):
            self._whole.add(folder)
        return folder in self._whole

    def expect(self, unit: Unit) -> Expectation:
        """Return the identity and inputs that a result should have now. Raise StaleInputError if an input is not usable."""
        refuse_undeclared(unit.asset)
        if unit not in self._expected:
            self._expected[unit] = self._compute(unit)
        found = self._expected[unit]
        if isinstance(found, StaleInputError):
            raise found
        return found

    def _compute(self, unit: Unit) -> Expectation | StaleInputError:
        asset = self.registry[unit.asset]
        try:
            reads = self.registry.reads_of(unit, self.experiment)
            inputs = Inputs(self, unit, reads)
            with only(unit.asset, reads):
                settings = asset.recipe(inputs)
        except StaleInputError as error:
            return error
        return Expectation(identity(unit.asset, asset.code_version, settings, inputs.found), inputs.found)

    def fresh(self, unit: Unit) -> Footer:
        """Return the footer of a table that is fresh. If the table is not fresh, raise StaleInputError with the reason."""
        state = self.state(unit)
        footer = self.footer(unit)
        if state.status != "fresh" or footer is None:
            advice = f"run `taskdiv run {self.experiment.command_name}` or materialise it first"
            raise StaleInputError(state.reason if state.status == "blocked" else f"{state.reason}; {advice}")
        return footer

    def read(self, asset: str, key: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return columns (by default all) of a stored table. Raise StaleInputError if the table is damaged or not fresh."""
        self.fresh(Unit(asset, key))
        try:
            return self.store.read_table(asset, key, columns).table
        except (DamagedError, FileNotFoundError) as error:
            raise StaleInputError(str(error)) from None

    def stale_units(self) -> dict[str, str]:
        """Return the stored results that a report leaves out because they are not fresh, each with the reason."""
        every = self.registry.units(self.experiment, self.store, self.pool_size, self.registry.order)
        units = [unit for unit in every if unit.asset not in self.registry.last]
        states = {str(unit): self.state(unit) for unit in self.look_ahead(units) if self.footer(unit) is not None}
        stale = {name: state.reason for name, state in states.items() if state.status != "fresh"}
        return stale | {f"{FOLDER}/{name}": why for name, (why, _) in self.variant_scores.items() if why}

    @cached_property
    def variant_scores(self) -> dict[str, tuple[str, str]]:
        """The stored scores of the variants: `<variant>/<unit>` → (why it is not fresh, its identity), one of which is empty."""
        found = {}
        for name, one in zip(self.experiment.robustness, variants_of(self.experiment), strict=True):
            lineage = Lineage(one, self.store.of_variant(name), self.registry)
            for unit in lineage.registry.units(one, lineage.store, self.pool_size, ["benchmark_scores"]):
                if lineage.store.owns(*unit) and (footer := lineage.footer(unit)) is not None:
                    state = lineage.state(unit)
                    reason = "" if state.status == "fresh" else f"variant {name}: {state.reason}"
                    found[f"{name}/{unit}"] = (reason, "" if reason else footer.identity)
        return found

    @cached_property
    def pool_size(self) -> PoolSize | None:
        """Size of the pool, and whether all answers are known; None if the stored pool is missing or not fresh."""
        with only(None):  # the pool's size decides which cells exist; it is not an input of a unit
            footer = self.footer(Unit("raw_pool"))
            if footer is None or not self.is_fresh(Unit("raw_pool")):
                return None
            return PoolSize(len(self.prompt_ids), all(answer is not None for answer in self.answer_hashes.values()))

    def cell_seeds(self, cell: Cell) -> tuple[int, ...]:
        return training_seeds(self.experiment, cell, self.pool_size)

    def cell_selection_seeds(self, cell: Cell) -> tuple[int, ...]:
        return tuple(sorted({self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}))

    def is_full_pool(self, cell: Cell) -> bool:
        return is_full_pool(self.experiment, cell, self.pool_size)

    @cached_property
    def prompt_ids(self) -> list[str]:
        ids: list[str] = self.read("raw_pool", columns=["prompt_id"])["prompt_id"].to_pylist()
        return ids

    @property
    def answers(self) -> dict[str, str | None]:
        """Answer of each prompt; None if the answer is not known."""
        refuse_undeclared("raw_pool")
        refuse_undeclared("annotations")
        return self._answers

    def _texts_of_answers(self) -> dict[str, str | None]:
        several = {i: "\n".join([self.answers[i] or "", *others]) for i, others in self.other_answers.items()}
        return {**self.answers, **several}

    @cached_property
    def _answers(self) -> dict[str, str | None]:
        try:
            return known_answers(self.store, self.experiment.annotation.adjudicator)
        except DamagedError as error:
            raise StaleInputError(str(error)) from None

    @cached_property
    def other_answers(self) -> dict[str, tuple[str, ...]]:
        """Further answers of prompts that adapters train on, the newest first, if the experiment keeps both; otherwise empty."""
        answers = self.answers
        if self.experiment.annotation.when_answers_differ != "both":
            return {}
        found = {}
        for prompt_id, by_person in differing(self.store).items():
            others = dict.fromkeys(text for text in reversed(by_person.values()) if text != answers.get(prompt_id))
            if prompt_id in answers and others:
                found[prompt_id] = tuple(others)
        return found

    @property
    def held_out_items(self) -> pa.Table:
        """Held-out items with their answers; `response` is null if the answer is not known."""
        refuse_undeclared("raw_pool")
        refuse_undeclared("annotations")
        return self._held_out_items

    @cached_property
    def _held_out_items(self) -> pa.Table:
        try:
            return held_out_items(self.store, self.experiment.annotation.adjudicator)
        except (DamagedError, FileNotFoundError) as error:
            raise StaleInputError(str(error)) from None

    @cached_property
    def answer_hashes(self) -> dict[str, str | None]:
        """SHA-256 of each prompt's answer; None if the answer is not known."""
        return {
            prompt_id: None if text is None else hashlib.sha256(text.encode()).hexdigest()
            for prompt_id, text in self.answers.items()
        }

    @cached_property
    def _training_hashes(self) -> dict[str, str | None]:
        """`answer_hashes`; for a prompt with several answers to train on, a hash of all of them."""
        several = {i: digest([self.answers[i], *others]) for i, others in self.other_answers.items()}
        return {**self.answer_hashes, **several}

    def adapter_plans(self, cell: Cell) -> list[AdapterPlan]:
        """Return the plan of the adapter of each training seed of a cell. Raise StaleInputError if an input is not fresh.

        If the experiment has candidate learning rates and an answer is missing, rates and identities in the plans are not valid.
        """
        seeds = {seed: self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}
        return self.plans_for(self.read("allocation", cell.key), seeds)

    def plans_for(self, rows: pa.Table, seeds: Mapping[int, int]) -> list[AdapterPlan]:
        """Return the plans of adapters for the prompts in `rows`; `seeds` maps training seeds to selection seeds.

        For the columns of `rows`, see `plan_adapters`; for missing answers, see `adapter_plans`.
        """
        base = self.fresh(Unit("base_model")).identity
        template, tuning = self.models.training_template, self.experiment.tuning
        if tuning.candidates is not None:
            plans = plan_adapters(rows, self._training_hashes, seeds, tuning.at(0.0), template, base, self.held.pairs)
            if any(plan.missing_n for plan in plans):
                return plans  # the caller requests the missing answers, and does not use the rate or the identities
            tuning = tuning.at(self.chosen_rate)
        return plan_adapters(rows, self._training_hashes, seeds, tuning, template, base, self.held.pairs)

    @property
    def chosen_rate(self) -> float:
        """The learning rate that was chosen among candidates. A variant multiplies the rate of its experiment by a factor.

        Raise StaleInputError if the choice is not fresh.
        """
        variant = self.experiment.variant
        if variant is None or self.store.parent is None:
            return float(self.fresh(Unit("tuning_choice")).notes["learning_rate"])
        return variant.rate_factor * Lineage(variant.parent, self.store.parent, self.registry).chosen_rate

    def trial_prompts(self, rates: LearningRates) -> TrialPrompts:
        """Return the prompts on which this experiment chooses its learning rate (see `kept_or_drawn`).

        Raise StaleInputError if too few answers are known.
        """
        footer = self.footer(Unit("tuning_choice"))
        try:
            notes = footer.notes if footer else {}
            return kept_or_drawn(self.answer_hashes, rates, min(self.experiment.budgets), notes)
        except ValueError as error:
            raise StaleInputError(str(error)) from None
