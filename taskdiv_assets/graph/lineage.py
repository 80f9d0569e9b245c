"""A cached view of one experiment's store: which results are fresh, and facts from stored tables, such as the pool's size.

A view never writes to the store. Assets, `taskdiv plan` and `taskdiv run` use views.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.adapter_plan import AdapterPlan, TrialPrompts, kept_or_drawn, plan_adapters
from taskdiv_assets.graph.cells import Cell, PoolSize, is_full_pool, training_seeds
from taskdiv_assets.graph.held import Held
from taskdiv_assets.graph.inputs import Inputs, only, refuse_undeclared
from taskdiv_assets.graph.known_answers import known_answers
from taskdiv_assets.graph.models import Models
from taskdiv_assets.graph.scoring_plan import ScoringPlan
from taskdiv_assets.graph.source_hashes import SourceHashes
from taskdiv_assets.graph.states import StaleInputError
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.graph.walk import Walk
from taskdiv_assets.storage.store import DamagedError, Store
from taskdiv_assets.tuning_settings import LearningRates

if TYPE_CHECKING:  # `registry` imports this module
    from taskdiv_assets.graph.registry import Registry

T = TypeVar("T")


class Lineage(Walk):
    """A cached view of an experiment's store, with facts that recipes, plans and commands need."""

    def __init__(self, experiment: Experiment, store: Store, registry: Registry) -> None:
        super().__init__(experiment, store, registry)
        self.models = Models(experiment, self.footer, self.fresh, store)
        self.held = Held(self.models, lambda: self.answers)
        self.scoring = ScoringPlan(experiment, self.models)
        self.sources = SourceHashes(experiment, self.footer)
        self._once: dict[Callable[[Any], Any], Any] = {}

    def again(self) -> Lineage:
        """Return a new view, which includes files that were written after this view was made."""
        return Lineage(self.experiment, self.store, self.registry)

    def once(self, function: Callable[[Lineage], T]) -> T:
        """Return `function(self)`. The function is called once, and later calls return the same value."""
        if function not in self._once:
            self._once[function] = function(self)
        found: T = self._once[function]
        return found

    def _inputs(self, unit: Unit, reads: tuple[str, ...]) -> Inputs:
        return Inputs(self, unit, reads)

    def stale_units(self) -> dict[str, str]:
        """Return the stored results that are not fresh, each with the reason. A report leaves these results out."""
        every = self.registry.units(self.experiment, self.store, self.pool_size, self.registry.order)
        units = [unit for unit in every if unit.asset not in self.registry.last]
        states = {str(unit): self.state(unit) for unit in self.look_ahead(units) if self.footer(unit) is not None}
        return {name: state.reason for name, state in states.items() if state.status != "fresh"}

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
        """Return the selection seeds of a cell, sorted and without duplicates."""
        return tuple(sorted({self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}))

    def is_full_pool(self, cell: Cell) -> bool:
        return is_full_pool(self.experiment, cell, self.pool_size)

    @cached_property
    def prompt_ids(self) -> list[str]:
        """Ids of the pool's prompts, in the order of the table."""
        ids: list[str] = self.read("raw_pool", columns=["prompt_id"])["prompt_id"].to_pylist()
        return ids

    @property
    def answers(self) -> dict[str, str | None]:
        """Answer of each prompt; None if the answer is not known."""
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
        """SHA-256 of each prompt's answer; None if the answer is not known."""
        return {
            prompt_id: None if text is None else hashlib.sha256(text.encode()).hexdigest()
            for prompt_id, text in self.answers.items()
        }

    def adapter_plans(self, cell: Cell) -> list[AdapterPlan]:
        """Return the plan of the adapter of each training seed of a cell. Raise StaleInputError if an input is not fresh."""
        rows = self.read("allocation", cell.key)
        base = self.fresh(Unit("base_model")).identity
        seeds = {seed: self.experiment.selection_seed_of(seed) for seed in self.cell_seeds(cell)}
        template, tuning = self.models.training_template, self.experiment.tuning
        if tuning.candidates is not None:
            plans = plan_adapters(rows, self.answer_hashes, seeds, tuning.at(0.0), template, base, self.held.pairs)
            if any(plan.missing_n for plan in plans):
                return plans  # the caller requests the missing answers, and does not use the rate or the identities
            tuning = tuning.at(float(self.fresh(Unit("tuning_choice")).notes["learning_rate"]))
        return plan_adapters(rows, self.answer_hashes, seeds, tuning, template, base, self.held.pairs)

    def trial_prompts(self, rates: LearningRates) -> TrialPrompts:
        """Return the result of `kept_or_drawn` for this experiment. Raise StaleInputError if too few answers are known."""
        footer = self.footer(Unit("tuning_choice"))
        try:
            notes = footer.notes if footer else {}
            return kept_or_drawn(self.answer_hashes, rates, min(self.experiment.budgets), notes)
        except ValueError as error:
            raise StaleInputError(str(error)) from None
