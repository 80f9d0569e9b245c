"""Functions that find the trained adapters of an experiment by budget, strategy and seed, and copy one to a new folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from taskdiv_assets.assets import REGISTRY
from taskdiv_assets.commands.new_folder import new_folder
from taskdiv_assets.experiment import Experiment
from taskdiv_assets.graph.cells import Cell
from taskdiv_assets.graph.units import Unit
from taskdiv_assets.storage import remote
from taskdiv_assets.storage.store import Store

CARD = "README.md"
OPTIONS = ("--budget", "--strategy", "--seed")


class Adapter(NamedTuple):
    """One trained adapter or fully tuned model."""

    cell: Cell
    seed: int
    examples_n: int
    final_loss: float
    identity: str  # name of its folder in the store
    is_fresh: bool  # made from the experiment's current settings and inputs


def adapters(experiment: Experiment, store: Store) -> Iterator[Adapter]:
    """Yield the stored adapters, also stale ones, sorted by budget, strategy and seed.

    Raise ValueError if a stored table is damaged or was not written by this project.
    """
    lineage = REGISTRY.look(experiment, store)
    units = lineage.look_ahead([Unit("adapter", cell.key) for cell in cells(store)])
    tables = remote.at_once(lambda unit: store.read_table(unit.asset, unit.key).table, units)
    for unit, table in zip(units, tables, strict=True):
        cell, is_fresh = Cell.parse(unit.key or ""), lineage.is_fresh(unit)
        for row in table.to_pylist():
            seed, examples_n, loss = row["training_seed"], row["examples_n"], row["final_loss"]
            yield Adapter(cell, seed, examples_n, loss, row["folder"], is_fresh)


def cells(store: Store) -> list[Cell]:
    """Return the cells for which a table `adapter` is stored, sorted."""
    names = [name for name in store.names_below("tables", "adapter") if name.endswith(".parquet")]
    pairs = [name.removesuffix(".parquet").split("/") for name in names]
    return sorted(Cell(int(budget), strategy) for strategy, budget in pairs)


def none_stored(store: Store) -> str:
    """Return the message for a store without adapters."""
    return f"no adapter of {store.experiment} is stored in {store.url}; `taskdiv run {store.experiment}` trains them"


def find(experiment: Experiment, store: Store, budget_n: int | None, strategy: str | None, seed: int | None) -> Adapter:
    """Return the only adapter with the given budget, strategy and training seed. An argument that is None matches every adapter.

    Raise ValueError if no adapter or several adapters match, or a stored table cannot be used (see `adapters`).
    """
    every = list(adapters(experiment, store))
    if not every:
        raise ValueError(none_stored(store))
    named: list[tuple[Adapter, tuple[Any, ...]]] = [(one, (*one.cell, one.seed)) for one in every]
    wanted = (budget_n, strategy, seed)
    found = [pair for pair in named if all(a in (None, b) for a, b in zip(wanted, pair[1], strict=True))]
    if len(found) == 1:
        return found[0][0]
    columns = zip(*(values for _, values in found or named), strict=True)
    there = {option: sorted(set(column)) for option, column in zip(OPTIONS, columns, strict=True)}
    left = {option: kept for option, kept in there.items() if len(kept) > 1 or not found}
    values = "; ".join(f"{option} {', '.join(map(str, kept))}" for option, kept in left.items())
    problem = f"{len(found)} adapters match" if found else "no adapter matches"
    raise ValueError(f"{problem}; choose among {values}; see `taskdiv adapters list {experiment.name}`")


def export(store: Store, adapter: Adapter, target: Path) -> int:
    """Copy an adapter's files and, if it exists, its README.md to the new local folder `target`. Return the number of files.

    The folder is created atomically. Raise ValueError if the folder exists or its parent is missing, and FileNotFoundError if the
    adapter's files are missing.
    """
    card = store.get("folders", adapter.identity, CARD)
    with new_folder(target) as part, store.fetched(adapter.identity) as folder:
        manifest = store.read_manifest(adapter.identity) or {"files": {}}
        for name in manifest["files"]:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, part / name)
        if card is not None:
            (part / CARD).write_bytes(card)
    return sum(path.is_file() for path in target.rglob("*"))
