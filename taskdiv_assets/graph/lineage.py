"""Compute the identity that each result should have, and classify the stored one as fresh, stale, missing or blocked.

A generic walk over the declarations of the registry. Assets, `taskdiv plan` and `taskdiv run` ask here; nothing here writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from data_contracts.footer import Footer
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.adapter_plan import AdapterPlan, TrialPrompts, kept_or_drawn, plan_adapters
from taskdiv_assets.graph.cells import Cell, PoolSize, is_full_pool, training_seeds
from taskdiv_assets.graph.held import Held
from taskdiv_assets.graph.inputs import Inputs, only, refuse_undeclared, structure
from taskdiv_assets.graph.known_answers import known_answers
from taskdiv_assets.graph.models import Models
from taskdiv_assets.graph.scoring_plan import ScoringPlan
from taskdiv_assets.graph.source_hashes import SourceHashes
from taskdiv_assets.graph.states import Expectation, StaleInputError, State, what_changed
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.identity import identity
from taskdiv_assets.storage.store import DamagedError, Store
from taskdiv_assets.tuning_settings import LearningRates

if TYPE_CHECKING:  # it imports this module
    from taskdiv_assets.graph.registry import Registry

T = TypeVar("T")


class Lineage:
    """One look at the store. Footers are read once, so make a new look (`again`) after something was written.

    Args:
        experiment: whose results.
        store: of this experiment.
        registry: of the assets.
    """

    def __init__(self, experiment: Experiment, store: Store, registry: Registry) -> None:
        self.experiment = experiment
        self.store = store
        self.registry = registry
        self.models = Models(experiment, self.footer, self.fresh, store)
        self.held = Held(self.models, lambda: self.answers)
        self.scoring = ScoringPlan(experiment, self.models)
        self.sources = SourceHashes(experiment, self.footer)
        self.problems: dict[Unit, str] = {}  # stored tables that cannot be read
        self._footers: dict[Unit, Footer | None] = {}
        self._expected: dict[Unit, Expectation | StaleInputError] = {}
        self._whole: set[str] = set()  # folders that were found complete
        self._once: dict[Callable[[Any], Any], Any] = {}

    def again(self) -> Lineage:
        """Return a new look at the store as it is now."""
        return Lineage(self.experiment, self.store, self.registry)

    def once(self, function: Callable[[Lineage], T]) -> T:
        """Return `function(self)`, computed once in this look."""
        if function not in self._once:
            self._once[function] = function(self)
        found: T = self._once[function]
        return found

    # --- the stored side -----------------------------------------------------------------------------------------

    def footer(self, unit: Unit) -> Footer | None:
        """Return the footer of a stored table, None if there is none."""
        refuse_undeclared(unit.asset)
        if unit not in self._footers:
            self._read_footers([unit])
        return self._footers[unit]

    def _read_footers(self, units: Sequence[Unit]) -> None:
        for unit, found in zip(units, self.store.read_footers(units), strict=True):
            if isinstance(found, ValueError):  # a foreign or damaged file counts as none
                self.problems[unit] = str(found)
            self._footers[unit] = None if isinstance(found, ValueError) else found

    def look_ahead(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """Read concurrently what a walk over these units would request from an object store one by one; return the units.

        650 cells at 20 ms a request take seconds instead of minutes. On a local disk nothing is read ahead.
        """
        if self.store.is_local:
            return units
        self._read_footers([unit for unit in units if unit not in self._footers])
        of_folders = {asset.name for asset in self.registry if asset.folders == "inputs"}
        pointing = {unit: found for unit in units if unit.asset in of_folders and (found := self.footer(unit))}
        folders = sorted({one for found in pointing.values() for one in found.inputs.values()} - self._whole)
        are_whole = remote.at_once(self.store.is_whole, folders)
        self._whole.update(name for name, is_whole in zip(folders, are_whole, strict=True) if is_whole)
        for unit in units:  # first the inputs of those, so that each thread reads the tables of its own cell only
            if not self.registry.ancestors(unit.asset) & of_folders:
                self.state(unit)
        remote.at_once(self.state, pointing)
        return units

    def state(self, unit: Unit) -> State:
        """Classify a stored result."""
        try:
            expected = self.expect(unit)
        except StaleInputError as error:
            return State("blocked", str(error))
        footer = self.footer(unit)
        if footer is None:
            return State("missing", self.problems.get(unit, f"{unit} is not there yet"))
        if footer.identity != expected.identity:
            version = self.registry[unit.asset].code_version
            return State("stale", f"{unit} was made from {what_changed(footer, expected, version)}")
        lost = self._lost_folder(unit, expected)
        return State("missing", f"{unit} lost its folder {lost}") if lost else State("fresh", "")

    def is_fresh(self, unit: Unit) -> bool:
        return self.state(unit).status == "fresh"

    def lacks_notes(self, unit: Unit) -> bool:
        """Return True if the stored table is of an earlier version, whose footer lacks notes that are needed now."""
        lacks, footer = self.registry[unit.asset].lacks_notes, self.footer(unit)
        return lacks is not None and footer is not None and lacks(footer.notes)

    def _lost_folder(self, unit: Unit, expected: Expectation) -> str | None:
        kind = self.registry[unit.asset].folders
        folders = {"none": [], "own": [expected.identity], "inputs": list(expected.inputs.values())}[kind]
        return next((name for name in folders if not self._is_whole(name)), None)

    def _is_whole(self, folder: str) -> bool:
        if folder not in self._whole and self.store.is_whole(folder):
            self._whole.add(folder)
        return folder in self._whole

    def read(self, asset: str, key: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a stored table, or some columns, that an identity depends on.

        Raises:
            StaleInputError: it is not up to date, it is damaged, or it was removed since its footer was read.
        """
        self.fresh(Unit(asset, key))
        try:
            return self.store.read_table(asset, key, columns).table
        except (DamagedError, FileNotFoundError) as error:
            raise StaleInputError(str(error)) from None

    # --- the expected side ---------------------------------------------------------------------------------------

    def expect(self, unit: Unit) -> Expectation:
        """Return the identity and the inputs that a result should have now.

        Raises:
            StaleInputError: an input is missing or out of date; says which, and what to run.
        """
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
            with only(unit.asset, frozenset(reads)):
                settings = asset.recipe(inputs)
        except StaleInputError as error:
            return error
        return Expectation(identity(unit.asset, asset.code_version, settings, inputs.found), inputs.found)

    def fresh(self, unit: Unit) -> Footer:
        """Return the footer of an input that has to be up to date.

        Raises:
            StaleInputError: it is not.
        """
        state = self.state(unit)
        footer = self.footer(unit)
        if state.status != "fresh" or footer is None:
            advice = f"run `taskdiv run {self.experiment.name}` or materialise it first"
            raise StaleInputError(state.reason if state.status == "blocked" else f"{state.reason}; {advice}")
        return footer

    def stale_units(self) -> dict[str, str]:
        """Return stored results that are not fresh, each with the reason; a report leaves them out."""
        every = self.registry.units(self.experiment, self.store, self.pool_size, self.registry.order)
        units = [unit for unit in every if unit.asset not in self.registry.last]
        states = {str(unit): self.state(unit) for unit in self.look_ahead(units) if self.footer(unit) is not None}
        return {name: state.reason for name, state in states.items() if state.status != "fresh"}

    # --- facts that follow from stored tables ----------------------------------------------------------------------

    @cached_property
    def pool_size(self) -> PoolSize | None:
        """Size of the pool, and whether all its answers are known; None before the pool was read."""
        with structure():
            footer = self.footer(Unit("raw_pool"))
            if footer is None or not self.is_fresh(Unit("raw_pool")):
                return None
            return PoolSize(len(self.prompt_ids), all(answer is not None for answer in self.answer_hashes.values()))

    def cell_seeds(self, cell: Cell) -> tuple[int, ...]:
        """Return the training seeds of a cell."""
        return training_seeds(self.experiment, cell, self.pool_size)

    def cell_selection_seeds(self, cell: Cell) -> tuple[int, ...]:
        """Return the selection seeds of a cell, each once."""
        return tuple(sorted({self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}))

    def is_full_pool(self, cell: Cell) -> bool:
        return is_full_pool(self.experiment, cell, self.pool_size)

    @cached_property
    def prompt_ids(self) -> list[str]:
        """Ids of the pool's prompts, in its order."""
        ids: list[str] = self.read("raw_pool", columns=["prompt_id"])["prompt_id"].to_pylist()
        return ids

    @property
    def answers(self) -> dict[str, str | None]:
        """Answer of each prompt, None where it is not known, as this look found it."""
        refuse_undeclared("raw_pool")
        refuse_undeclared("annotations")
        return self._answers

    @cached_property
    def _answers(self) -> dict[str, str | None]:
        try:
            return known_answers(self.store)
        except DamagedError as error:
            raise StaleInputError(str(error)) from None

    @cached_property
    def answer_hashes(self) -> dict[str, str | None]:
        """SHA-256 of each prompt's answer, None where it is not known."""
        return {
            prompt_id: None if text is None else hashlib.sha256(text.encode()).hexdigest()
            for prompt_id, text in self.answers.items()
        }

    def adapter_plans(self, cell: Cell) -> list[AdapterPlan]:
        """Return what each seed's adapter of a cell is made of; equal selections have equal identities.

        Raises:
            StaleInputError: an input is not up to date.
        """
        rows = self.read("allocation", cell.key)
        base = self.fresh(Unit("base_model")).identity
        seeds = {seed: self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}
        template, tuning = self.models.training_template, self.experiment.tuning
        if tuning.candidates is not None:
            plans = plan_adapters(rows, self.answer_hashes, seeds, tuning.at(0.0), template, base, self.held.pairs)
            if any(plan.missing_n for plan in plans):
                return plans  # answers come first; nothing is trained or found at this rate
            tuning = tuning.at(float(self.fresh(Unit("tuning_choice")).notes["learning_rate"]))
        return plan_adapters(rows, self.answer_hashes, seeds, tuning, template, base, self.held.pairs)

    def trial_prompts(self, rates: LearningRates) -> TrialPrompts:
        """Return the prompts that learning rates are tried on: those of the stored choice as long as they serve.

        Raises:
            StaleInputError: too few answers are known.
        """
        footer = self.footer(Unit("tuning_choice"))
        try:
            notes = footer.notes if footer else {}
            return kept_or_drawn(self.answer_hashes, rates, min(self.experiment.budgets), notes)
        except ValueError as error:
            raise StaleInputError(str(error)) from None
