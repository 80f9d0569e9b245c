"""The selection of a part of an experiment by budgets, by strategies and by the last asset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit


class Filter(NamedTuple):
    """The selected part of an experiment. An empty tuple selects all budgets, or all strategies.

    `until` selects one asset with its direct and indirect inputs; None selects all assets.
    """

    budgets: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    until: str | None = None

    def assets(self, experiment: Experiment) -> frozenset[str]:
        """Return the assets of the selected part. Raise ValueError if the part does not use the asset `until`."""
        used = frozenset(REGISTRY.used(experiment, self.strategies))
        if self.until is None:
            return used
        if self.until not in used:
            raise ValueError(REGISTRY.why_unused(experiment, self.until, self.strategies))
        return REGISTRY.ancestors(self.until, experiment, used)

    def wants(self, unit: Unit) -> bool:
        """Return whether the budget and the strategy of a unit are selected. A unit without a partition is always selected."""
        if unit.key is None:
            return True
        if "|" not in unit.key:
            return not self.strategies or unit.key in self.strategies
        return self.wants_cell(Cell.parse(unit.key))

    def wants_cell(self, cell: Cell) -> bool:
        has_budget = not self.budgets or cell.budget_n in self.budgets
        return has_budget and (not self.strategies or cell.strategy in self.strategies)

    @property
    def options(self) -> str:
        """The budgets and strategies as options of a command, with a blank before each option.

        >>> Filter((200,), ("random",)).options
        ' --budget 200 --strategy random'
        """
        budgets = [f" --budget {budget_n}" for budget_n in self.budgets]
        return "".join([*budgets, *(f" --strategy {name}" for name in self.strategies)])


def refuse_unregistered(experiment: Experiment, known: Collection[int], budgets: Sequence[int], called: str) -> None:
    """Raise ValueError if a budget is not in `known`, the budgets of the experiment. `--budget` does not add budgets.

    `called` is the name or path that the user typed for the experiment. The message repeats it.
    """
    for budget_n in budgets:
        if budget_n not in known:
            raise ValueError(
                f"{budget_n} is not a budget of {experiment.name}; it has {', '.join(map(str, sorted(known)))}. "
                f"`taskdiv budget add {called} {budget_n}` adds it, for every strategy"
            )
