"""The inputs of one unit (an asset with its partition). The function `Asset.recipe` collects them for the unit's identity.

A recipe may read only the tables of assets in `Asset.reads`; any other table raises UndeclaredInputError. So every table that
determines an identity is also a dependency in Dagster.
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
    """Error for an asset that reads the table of an asset that is not in its `reads`."""


def refuse_undeclared(asset: str) -> None:
    """Raise UndeclaredInputError if a block of `only` is running that does not allow reading the table of `asset`."""
    allowed = _ALLOWED.get()
    if allowed is not None and asset not in allowed[1]:
        raise UndeclaredInputError(
            f"the recipe of {allowed[0]} reads {asset}; add {asset!r} to `reads` of taskdiv_assets/assets/{allowed[0]}.py"
        )


@contextmanager
def only(asset: str | None, reads: Collection[str] = ()) -> Iterator[None]:
    """Allow the block to read only the tables of `asset` and of the assets in `reads`. If `asset` is None, allow all tables."""
    token = _ALLOWED.set(None if asset is None else (asset, frozenset({asset, *reads})))
    try:
        yield
    finally:
        _ALLOWED.reset(token)


class Inputs:
    """The inputs of one unit. The unit's recipe fills `found`, which maps the name of each input to an identity or hash."""

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
        """Add a complete table as an input, and return the table's footer. Raise StaleInputError if the table is not fresh."""
        unit = Unit(asset, key)
        footer = self.lineage.fresh(unit)
        self.found[str(unit)] = footer.identity
        return footer

    def part(self, asset: str, *names: str) -> None:
        """Add hashes of parts of a table, such as `raw_pool.prompts`. Raise StaleInputError if the table is not fresh."""
        footer = self.lineage.fresh(Unit(asset))
        self.found |= {f"{asset}.{name}": footer.parts[name] for name in names}

    def add(self, inputs: Mapping[str, str]) -> None:
        """Add inputs that are not tables, such as hashes of the user's files. The keys are the names of the inputs."""
        self.found |= inputs
