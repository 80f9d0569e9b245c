"""The part of an experiment that a command is about: some budgets, some strategies, up to some asset."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit


class Filter(NamedTuple):
    """Which part of an experiment is wanted; empty means all of it."""

    budgets: tuple[int, ...] = ()
    strategies: tuple[str, ...] = ()
    until: str | None = None

    def assets(self, experiment: Experiment) -> frozenset[str]:
        """Return the assets that the wanted part uses.

        Raises:
            ValueError: it is to end at an asset that it does not use.
        """
        used = frozenset(REGISTRY.used(experiment, self.strategies))
        if self.until is None:
            return used
        if self.until not in used:
            raise ValueError(REGISTRY.why_unused(experiment, self.until, self.strategies))
        return REGISTRY.ancestors(self.until, used)

    def wants(self, unit: Unit) -> bool:
        """True if the budget and the strategy of a unit are wanted."""
        if unit.key is None:
            return True
        if "|" not in unit.key:
            return not self.strategies or unit.key in self.strategies
        return self.wants_cell(Cell.parse(unit.key))

    def wants_cell(self, cell: Cell) -> bool:
        """True if a cell's budget and strategy are wanted."""
        return (not self.budgets or cell.budget_n in self.budgets) and (
            not self.strategies or cell.strategy in self.strategies
        )

    @property
    def options(self) -> str:
        """The filter as options of a command, with a blank before each.

        >>> Filter((200,), ("random",)).options
        ' --budget 200 --strategy random'
        """
        budgets = [f" --budget {budget_n}" for budget_n in self.budgets]
        return "".join([*budgets, *(f" --strategy {name}" for name in self.strategies)])


def refuse_unregistered(experiment: Experiment, known: Collection[int], budgets: Sequence[int], called: str) -> None:
    """Refuse a budget that the experiment does not have: `--budget` selects, and never adds one.

    Args:
        experiment: whose budgets.
        known: its budgets: of the file, those that were added, and the full pool's.
        budgets: that were asked for.
        called: name or path by which the user names the experiment.

    Raises:
        ValueError: a budget is none of them.
    """
    for budget_n in budgets:
        if budget_n not in known:
            raise ValueError(
                f"{budget_n} is not a budget of {experiment.name}; it has {', '.join(map(str, sorted(known)))}. "
                f"`taskdiv budget add {called} {budget_n}` adds it, for every strategy"
            )
