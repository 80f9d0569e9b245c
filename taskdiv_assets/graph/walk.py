"""A walk over the graph: it computes the identity that each result should have, and compares it with the stored result.

An identity is a hash of everything that determines a result. A footer is the metadata of a stored table and contains its
identity. A result is fresh, stale, missing or blocked. A walk never writes to the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from data_contracts.footer import Footer
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.inputs import Inputs, only, refuse_undeclared
from taskdiv_assets.graph.states import Expectation, StaleInputError, State, what_changed
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.identity import identity
from taskdiv_assets.storage.store import DamagedError, Store

if TYPE_CHECKING:  # `registry` imports this module
    from taskdiv_assets.graph.registry import Registry


class Walk(ABC):
    """A cached view of an experiment's store. Each footer is read once, so a new view is needed after a file was written."""

    def __init__(self, experiment: Experiment, store: Store, registry: Registry) -> None:
        self.experiment = experiment
        self.store = store
        self.registry = registry
        self.problems: dict[Unit, str] = {}  # unit → error of a stored table that cannot be read
        self._footers: dict[Unit, Footer | None] = {}
        self._expected: dict[Unit, Expectation | StaleInputError] = {}
        self._whole: set[str] = set()  # identities of folders that are complete

    @abstractmethod
    def _inputs(self, unit: Unit, reads: tuple[str, ...]) -> Inputs: ...

    def footer(self, unit: Unit) -> Footer | None:
        """Return the footer of a stored table; None if the table does not exist or cannot be read."""
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
        """Read all files for a walk over these units concurrently, if the store is remote. Return the units.

        For 650 cells at 20 ms per request, this takes seconds. One file at a time would take minutes.
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
            version = self.registry[unit.asset].code_version
            return State("stale", f"{unit} was made from {what_changed(footer, expected, version)}")
        lost = self._lost_folder(unit, expected)
        return State("missing", f"{unit} lost its folder {lost}") if lost else State("fresh", "")

    def is_fresh(self, unit: Unit) -> bool:
        return self.state(unit).status == "fresh"

    def lacks_notes(self, unit: Unit) -> bool:
        """Return True if an earlier version wrote the stored table, and its footer lacks notes that are needed now."""
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

    def expect(self, unit: Unit) -> Expectation:
        """Return the identity and the inputs that a result should have now. Raise StaleInputError if an input is not fresh."""
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
            inputs = self._inputs(unit, reads)
            with only(unit.asset, reads):
                settings = asset.recipe(inputs)
        except StaleInputError as error:
            return error
        return Expectation(identity(unit.asset, asset.code_version, settings, inputs.found), inputs.found)

    def fresh(self, unit: Unit) -> Footer:
        """Return the footer of a fresh table.

        Raises:
            StaleInputError: the table is not fresh. The message contains the reason and the command to run.
        """
        state = self.state(unit)
        footer = self.footer(unit)
        if state.status != "fresh" or footer is None:
            advice = f"run `taskdiv run {self.experiment.name}` or materialise it first"
            raise StaleInputError(state.reason if state.status == "blocked" else f"{state.reason}; {advice}")
        return footer

    def read(self, asset: str, key: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a stored table, or some of its columns, for use in an identity.

        Raises:
            StaleInputError: the table is not fresh or is damaged, or another process removed it.
        """
        self.fresh(Unit(asset, key))
        try:
            return self.store.read_table(asset, key, columns).table
        except (DamagedError, FileNotFoundError) as error:
            raise StaleInputError(str(error)) from None
