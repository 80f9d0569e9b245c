"""The inputs of one unit (an asset with its partition). The function `Asset.recipe` collects them for the unit's identity.

A recipe that reads the table of another asset outside `reads` raises UndeclaredInputError. So the dependencies in Dagster contain
all tables among the inputs of the identities.
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

if TYPE_CHECKING:  # `lineage` imports this module
    from taskdiv_assets.graph.lineage import Lineage

_ALLOWED: ContextVar[tuple[str, frozenset[str]] | None] = ContextVar("allowed", default=None)


class UndeclaredInputError(RuntimeError):
    """Error for an asset that reads a table outside its `reads`."""


def refuse_undeclared(asset: str) -> None:
    """Raise UndeclaredInputError if a recipe runs now, and `asset` is neither its own asset nor in its `reads`."""
    allowed = _ALLOWED.get()
    if allowed is not None and asset not in allowed[1]:
        raise UndeclaredInputError(
            f"the recipe of {allowed[0]} reads {asset}; add {asset!r} to `reads` of taskdiv_assets/assets/{allowed[0]}.py"
        )


@contextmanager
def only(asset: str | None, reads: Collection[str] = ()) -> Iterator[None]:
    """Let the block read only the tables of `asset` and of `reads`; all tables if `asset` is None."""
    token = _ALLOWED.set(None if asset is None else (asset, frozenset({asset, *reads})))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


class Inputs:
    """The inputs of one unit, for its recipe. `found` contains the identity or hash of each input that the recipe added."""

    def __init__(self, lineage: Lineage, unit: Unit, reads: tuple[str, ...]) -> None:
        self.experiment: Experiment = lineage.experiment
        self.lineage, self.unit, self.reads = lineage, unit, reads
        self.found: dict[str, str] = {}

    @property
    def key(self) -> str:
        return self.unit.key or ""

    @property
    def cell(self) -> Cell:
        return Cell.parse(self.key)

    def of(self, asset: str, key: str | None = None) -> Footer:
        """Add a table with all its parts as an input, and return its footer. Raise StaleInputError if the table is not fresh."""
        unit = Unit(asset, key)
        footer = self.lineage.fresh(unit)
        self.found[str(unit)] = footer.identity
        return footer

    def part(self, asset: str, *names: str) -> None:
        """Add named parts of a table as inputs, such as `raw_pool.prompts`. Raise StaleInputError if the table is not fresh."""
        footer = self.lineage.fresh(Unit(asset))
        self.found |= {f"{asset}.{name}": footer.parts[name] for name in names}

    def add(self, inputs: Mapping[str, str]) -> None:
        """Add inputs that are not tables, such as hashes of the user's files. The keys are the names of the inputs."""
        self.found |= inputs
