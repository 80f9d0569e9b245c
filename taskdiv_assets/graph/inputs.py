"""The inputs that a recipe may use: the declared inputs of one unit, collected for its identity.

A recipe that asks for a table outside its asset's `reads` raises UndeclaredInputError, also if it asks indirectly through
`lineage`. So the arrows in Dagster and the identities in the store always agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from data_contracts.footer import Footer
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit

if TYPE_CHECKING:  # it imports this module
    from taskdiv_assets.graph.lineage import Lineage

_ALLOWED: ContextVar[tuple[str, frozenset[str]] | None] = ContextVar("allowed", default=None)


class UndeclaredInputError(RuntimeError):
    """An asset reads a table that its declaration does not list."""


def refuse_undeclared(asset: str) -> None:
    """Raise UndeclaredInputError if the recipe that runs now belongs to an asset that does not declare `asset`."""
    allowed = _ALLOWED.get()
    if allowed is not None and asset not in allowed[1]:
        raise UndeclaredInputError(
            f"the recipe of {allowed[0]} reads {asset}; add {asset!r} to `reads` of taskdiv_assets/assets/{allowed[0]}.py"
        )


@contextmanager
def only(asset: str | None, reads: Collection[str] = ()) -> Iterator[None]:
    """Refuse, inside this block, tables other than the asset's own and those that it reads."""
    token = _ALLOWED.set(None if asset is None else (asset, frozenset({asset, *reads})))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


class Inputs:
    """Declared inputs of one unit, and the mapping of names to identities that a recipe collects from them.

    Attributes:
        experiment: that the unit belongs to.
        lineage: for facts that are derived from declared inputs.
        reads: names of the tables that this unit reads.
        found: input name -> identity, as collected so far.
    """

    def __init__(self, lineage: Lineage, unit: Unit, reads: tuple[str, ...]) -> None:
        self.experiment: Experiment = lineage.experiment
        self.lineage = lineage
        self.unit = unit
        self.reads = reads
        self.found: dict[str, str] = {}

    @property
    def key(self) -> str:
        return self.unit.key or ""

    @property
    def cell(self) -> Cell:
        return Cell.parse(self.key)

    def of(self, asset: str, key: str | None = None) -> Footer:
        """Add the whole table as an input.

        Raises:
            StaleInputError: it is not up to date.
        """
        unit = Unit(asset, key)
        footer = self.lineage.fresh(unit)
        self.found[str(unit)] = footer.identity
        return footer

    def part(self, asset: str, *names: str) -> None:
        """Add named parts of a table as inputs (`raw_pool.prompts`); a change of its other parts then changes no identity.

        Raises:
            StaleInputError: it is not up to date.
        """
        footer = self.lineage.fresh(Unit(asset))
        self.found |= {f"{asset}.{name}": footer.parts[name] for name in names}

    def add(self, inputs: Mapping[str, str]) -> None:
        """Add inputs under other names, such as hashes of the user's files."""
        self.found |= inputs
